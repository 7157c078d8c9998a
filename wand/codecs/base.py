"""What a codec promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from wand.conditioning import Reference


class Codec(ABC):
    """Audio to codes and back.

    Attributes:
        sample_rate: In Hz.
        frame_rate: Frames of codes a second, in Hz.
        num_codebooks: K.
        codebook_size: Codes are ``0 .. codebook_size - 1``.
        needs_reference: Whether `decode` needs the voice, which the codes leave out.
        causal: Whether the sound of a frame depends on no later one: padded codes may then be decoded side by side.
    """

    sample_rate: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int
    causal: bool = False
    needs_reference: bool = False

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

    def global_codes(self, audio: Tensor, sample_rate: int) -> Tensor | None:
        """Codes ``[B, G]`` of the voice as a whole, for `Reference.global_codes`; None where a codec has none."""
        return None

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
