"""What speech a corpus holds: the smallest interface that preparation needs."""

from __future__ import annotations

import hashlib
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
        reference: Id of the utterance that is its reference; one of the same speaker by default.
    """

    id: str
    text: str
    speaker: str
    reference: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SpeechCodes:
    """An utterance in the model's own codec.

    Args:
        codes: ``[K, F]``.
        global_codes: ``[G]`` of the voice as a whole, in codecs that part it from the speech.
    """

    codes: Tensor
    global_codes: Tensor | None = None


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
        """The sound of one utterance: float32 ``[N]`` at `sample_rate`, the same on every call.

        Raises:
            ValueError: If there is none; the utterance is then left out.
        """
        ...


@runtime_checkable
class CodedSource(SpeechSource, Protocol):
    """A corpus that has been through the model's codec already, so that none is needed."""

    coded: bool

    def codes(self, utterance: Utterance) -> SpeechCodes:
        """The codes of one utterance.

        Raises:
            ValueError: If they cannot be read; the utterance is then left out.
        """
        ...


def split_by_name(name: str, validation_share: float, test_share: float) -> str:
    """The split to which a name belongs, whatever else is in the corpus."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    if place < validation_share:
        return "validation"
    return "test" if place < validation_share + test_share else "train"
