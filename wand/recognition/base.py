"""The interface of a speech recogniser."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch.distributed
from torch import Tensor

from wand.console.progress import Progress, progress


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
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    first = not several or torch.distributed.get_rank() == 0
    return progress("transcribing", sounds, "sounds", shown=first, bar=False)
