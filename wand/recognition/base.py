"""What a recogniser promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Recogniser(Protocol):
    """Writes down what is said."""

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """What is heard in sounds ``[N]``, one text each; an empty text where there is nothing to hear."""
        ...
