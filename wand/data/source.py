"""What speech a corpus holds: the smallest interface that preparation needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken sentence of a corpus.

    Args:
        id: Unique name within the corpus.
        text: What is said.
        speaker: Who says it; references are drawn from the same speaker.
    """

    id: str
    text: str
    speaker: str


@runtime_checkable
class SpeechSource(Protocol):
    """A corpus: utterances by split, and the sound of each. Must be picklable (worker processes use it)."""

    sample_rate: int

    @property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of everything that determines the speech."""
        ...

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of ``train``, ``validation`` or ``test``."""
        ...

    def audio(self, utterance: Utterance) -> Tensor:
        """The sound of one utterance: float32 ``[N]`` at `sample_rate`, the same on every call."""
        ...
