"""The interface of a speech recogniser."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from wand.console.progress import Progress, progress
from wand.ranks import is_first


class Recogniser(Protocol):
    """Transcribes speech.

    Attributes:
        name: Its name in tables.
        language: Language of the speech (``en``, ``zh``). Error rates compare texts by its rules.
    """

    name: str
    language: str

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """Transcribe sounds ``[N]``, one text per sound. A sound without speech gives an empty text."""
        ...


def transcribing(sounds: int) -> AbstractContextManager[Progress]:
    """Progress of a recogniser. A bar may be drawn around it, so in a terminal nothing is shown.

    Args:
        sounds: Number of sounds.
    """
    return progress("transcribing", sounds, "sounds", shown=is_first(), bar=False)
