"""The interface of a speech recogniser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Recogniser(Protocol):
    """Transcribes speech.

    Attributes:
        language: Language of the speech (``en``, ``zh``). Error rates compare texts by its rules.
    """

    language: str

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """Transcribe sounds ``[N]``, one text per sound. A sound without speech gives an empty text."""
        ...
