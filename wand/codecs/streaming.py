"""Streaming decoders: decode codes in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


class CodecStream(ABC):
    """Decodes one utterance in chunks. Each stream has its own state, so several may run at the same time.

    Samples are float32, on the CPU.
    """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Decode the next codes ``[K, n]``, any number of frames, to the next samples ``[N]``.

        The samples continue those of the last call without a gap. If the codec needs later frames to decode a frame,
        the last frames wait for the next call.
        """

    @abstractmethod
    def finish(self) -> Tensor:
        """End the utterance. Returns the samples ``[N]`` of the frames that still wait."""


class ContextStream(CodecStream):
    """Streams with any codec: decodes new frames together with their neighbours, and fades between calls.

    The result equals one decode of the whole utterance if a frame depends on at most `context` frames before it and,
    with the fade, `lookahead` frames after it. Every call decodes these neighbours again, so large chunks cost less.

    Args:
        decode: Decodes codes ``[K, F]`` to audio ``[F * hop]``. The end may be shorter or longer by less than a frame.
        hop: Samples per frame.
        context: Number of frames before the new ones that are decoded again.
        lookahead: Number of frames that wait for the frames after them.
        fade: Length of the fade between two decodes, in samples; at most the length of the lookahead.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], hop: int, context: int, lookahead: int, fade: int) -> None:
        assert fade <= lookahead * hop, "the fade must not be longer than the lookahead"
        self._decode = decode
        self._hop, self._context, self._lookahead, self._fade = hop, context, lookahead, fade
        self._codes: Tensor | None = None
        self._spoken = 0  # frames of the stored codes whose samples were returned
        self._tail = torch.zeros(0)  # samples of the last decode after those that were returned

    def decode(self, codes: Tensor) -> Tensor:
        """Decode the next codes ``[K, n]``. Returns the samples ``[N]`` of frames with enough frames after them.

        Raises:
            ValueError: If the length of the decoded audio does not match the frame rate of the codec.
        """
        self._codes = codes if self._codes is None else torch.cat([self._codes, codes], dim=1)
        return self._speak(self._codes.shape[1] - self._lookahead)

    def finish(self) -> Tensor:
        """The samples ``[N]`` of the frames that still wait."""
        return torch.zeros(0) if self._codes is None else self._speak(self._codes.shape[1])

    def _speak(self, until: int) -> Tensor:
        """The samples of the stored frames up to frame `until`."""
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
