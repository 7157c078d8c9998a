"""Speech as it comes: chunks of codes to the sound of their frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


class CodecStream(ABC):
    """The decoding of one utterance chunk by chunk; what it remembers is its own, so that several may run at a time.

    Samples are float32 and on the CPU.
    """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """The next codes ``[K, n]``, any number of frames, to the next samples ``[N]``.

        The samples follow those of the last call without a gap. They are the sound of exactly these frames where the
        codec needs no later frame for it; else some frames wait for their successors.
        """

    @abstractmethod
    def finish(self) -> Tensor:
        """The samples ``[N]`` of the frames that still wait; the utterance is over."""


class ContextStream(CodecStream):
    """The way of any codec: decode anew what is new among its neighbours, and fade from one decode to the next.

    Equal to one decode of the whole if the sound of a frame depends on no more than `context` frames before it and, the
    fade included, `lookahead` frames after it. Every call decodes both and the new ones: large chunks cost less.

    Args:
        decode: Codes ``[K, F]`` to audio ``[F * hop]``; somewhat less or more at the end is taken as it is.
        hop: Samples a frame.
        context: Frames that are decoded again before the new ones.
        lookahead: Frames that wait for their successors.
        fade: Samples over which one decode turns into the next, no more than the lookahead has.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], hop: int, context: int, lookahead: int, fade: int) -> None:
        assert fade <= lookahead * hop, "a fade needs the sound of frames that are decoded again"
        self._decode = decode
        self._hop, self._context, self._lookahead, self._fade = hop, context, lookahead, fade
        self._codes: Tensor | None = None
        self._spoken = 0  # frames of the codes kept whose sound is out
        self._tail = torch.zeros(0)  # how the last decode went on

    def decode(self, codes: Tensor) -> Tensor:
        """The next codes ``[K, n]`` to the next samples ``[N]``: those of the frames with enough successors.

        Raises:
            ValueError: If the codec's frames are of another length than it says.
        """
        self._codes = codes if self._codes is None else torch.cat([self._codes, codes], dim=1)
        return self._speak(self._codes.shape[1] - self._lookahead)

    def finish(self) -> Tensor:
        """The samples ``[N]`` of the frames that wait."""
        return torch.zeros(0) if self._codes is None else self._speak(self._codes.shape[1])

    def _speak(self, until: int) -> Tensor:
        """Sound of the frames up to one of those kept."""
        codes = self._codes
        assert codes is not None
        if until <= self._spoken:
            return torch.zeros(0)
        audio = self._decode(codes)
        frames = codes.shape[1]
        if abs(len(audio) - frames * self._hop) >= self._hop:
            raise ValueError(
                f"the codec made {len(audio)} samples of {frames} frames, not {frames * self._hop}: "
                "correct its frame_rate or its sample_rate"
            )
        stop = until * self._hop if until < frames else len(audio)
        sound = audio[self._spoken * self._hop : stop].clone()
        faded = min(len(self._tail), len(sound))
        rise = torch.linspace(0, 1, faded + 2)[1:-1]
        sound[:faded] = torch.lerp(self._tail[:faded], sound[:faded], rise)
        self._tail = audio[stop : stop + self._fade]
        forgotten = max(until - self._context, 0)
        self._codes, self._spoken = codes[:, forgotten:], until - forgotten
        return sound
