"""The interface of a codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from math import ceil
from typing import Self

import torch
from torch import Tensor

from wand.codecs.reference import Reference
from wand.codecs.streaming import CodecStream, ContextStream

# The default stream decodes this much before and after new frames again, and fades from the old to the new audio.
CONTEXT_SECONDS = 1.0
LOOKAHEAD_SECONDS = 0.2
FADE_SECONDS = 0.02


class CodecUnavailable(ValueError):
    """Raised when the codec does not work at all, for any input."""


class Codec(ABC):
    """Encodes audio to codes and decodes codes to audio.

    Attributes:
        sample_rate: Sample rate of the audio, in Hz.
        frame_rate: Frames of codes per second, in Hz.
        num_codebooks: K.
        codebook_size: Codes are ``0 .. codebook_size - 1``.
        needs_reference: Whether `decode` needs a reference for the voice, because the codes do not contain it.
        needs_latents: Whether audio is made from latents of the model, with `vocode` instead of `decode`.
        causal: Whether the audio of a frame does not depend on later frames. Padded codes can then be decoded in one
            batch.
        starts_programs: Settings of the class that name programs or code which the codec starts. A run or an export
            from somebody else may not set them.
    """

    sample_rate: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int
    causal: bool = False
    needs_reference: bool = False
    needs_latents: bool = False
    starts_programs: tuple[str, ...] = ()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Short digest of everything that determines the codes."""

    @abstractmethod
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio ``[B, 1, N]`` to codes ``[B, K, F]``.

        Raises:
            ValueError: If `sample_rate` is not that of the codec.
        """

    @abstractmethod
    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        """Decode codes ``[B, K, F]`` to audio ``[B, 1, N]``.

        Args:
            codes: Codes of the speech.
            reference: The voice, for codecs whose codes do not contain it.
        """

    def stream(self, reference: Reference | None = None) -> CodecStream:
        """Decode one utterance in chunks. This default decodes 1 s before and 0.2 s after the new frames again.

        Args:
            reference: The voice, for codecs whose codes do not contain it.
        """
        return ContextStream(
            lambda codes: self.decode(codes[None], reference)[0, 0].cpu(),
            hop=round(self.sample_rate / self.frame_rate),
            context=ceil(CONTEXT_SECONDS * self.frame_rate),
            lookahead=ceil(LOOKAHEAD_SECONDS * self.frame_rate),
            fade=round(FADE_SECONDS * self.sample_rate),
        )

    def vocode(self, latents: Tensor, reference: Reference | None) -> Tensor:
        """Turn latents ``[F, D]`` of `Backbone.speech_latents` into audio ``[N]``, for codecs with `needs_latents`.

        Args:
            latents: One latent per frame.
            reference: The voice.
        """
        raise ValueError(f"{type(self).__name__} decodes codes, not latents: call decode")

    def global_codes(self, audio: Tensor, sample_rate: int) -> Tensor | None:
        """Global codes ``[B, G]`` of the voice, for `Reference.global_codes`; None if the codec has none."""
        return None

    @cached_property
    def silent_codes(self) -> frozenset[int]:
        """Codes that the first codebook uses for one second of silence."""
        silence = self.encode(torch.zeros(1, 1, self.sample_rate), self.sample_rate)
        return frozenset(silence[0, 0].tolist())

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
