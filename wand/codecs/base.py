"""What a codec promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil
from typing import Self

import torch
from torch import Tensor

from wand.codecs.reference import Reference
from wand.codecs.streaming import CodecStream, ContextStream

# What a codec without a stream of its own decodes anew around new frames, and how long it fades from old to new.
CONTEXT_SECONDS = 1.0
LOOKAHEAD_SECONDS = 0.2
FADE_SECONDS = 0.02


class CodecUnavailable(ValueError):
    """The codec itself does not work, whatever sound it is given."""


class Codec(ABC):
    """Audio to codes and back.

    Attributes:
        sample_rate: In Hz.
        frame_rate: Frames of codes a second, in Hz.
        num_codebooks: K.
        codebook_size: Codes are ``0 .. codebook_size - 1``.
        needs_reference: Whether `decode` needs the voice, which the codes leave out.
        needs_latents: Whether the sound is made of the model's own states: `vocode` takes the place of `decode`.
        causal: Whether the sound of a frame depends on no later one: padded codes may then be decoded side by side.
    """

    sample_rate: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int
    causal: bool = False
    needs_reference: bool = False
    needs_latents: bool = False

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Short digest of everything that determines the codes."""

    @abstractmethod
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Audio ``[B, 1, N]`` to codes ``[B, K, F]``.

        Raises:
            ValueError: If `sample_rate` is not the codec's.
        """

    @abstractmethod
    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Codes ``[B, K, F]`` to audio ``[B, 1, N]``.

        Args:
            codes: The speech.
            reference: The voice, in codecs whose codes leave it out.
        """

    def stream(self, reference: Reference | None = None) -> CodecStream:
        """Decode one utterance chunk by chunk; here by decoding a second before and 0.2 s after the new frames anew.

        Args:
            reference: The voice, in codecs whose codes leave it out.
        """
        return ContextStream(
            lambda codes: self.decode(codes[None], reference)[0, 0].cpu(),
            hop=round(self.sample_rate / self.frame_rate),
            context=ceil(CONTEXT_SECONDS * self.frame_rate),
            lookahead=ceil(LOOKAHEAD_SECONDS * self.frame_rate),
            fade=round(FADE_SECONDS * self.sample_rate),
        )

    def vocode(self, latents: Tensor, reference: Reference | None) -> Tensor:
        """Latents ``[F, D]`` of `Backbone.speech_latents` to audio ``[N]``, where a codec needs them.

        Args:
            latents: One a frame.
            reference: The voice.
        """
        raise ValueError(f"{type(self).__name__} makes sound of codes, not of latents")

    def global_codes(self, audio: Tensor, sample_rate: int) -> Tensor | None:
        """Codes ``[B, G]`` of the voice as a whole, for `Reference.global_codes`; None where a codec has none."""
        return None

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
