"""The interface of a corpus, as preparation needs it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from wand.model.backbone import Backbone

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken sentence of a corpus.

    Args:
        id: Unique name within the corpus.
        text: The words that are said.
        speaker: Name of the speaker. References are chosen from the same speaker.
        reference: Id of the utterance to use as reference. None chooses another utterance of the same speaker.
    """

    id: str
    text: str
    speaker: str
    reference: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SpeechCodes:
    """An utterance encoded with the model's codec.

    Args:
        codes: Codes of the speech, ``[K, F]``.
        global_codes: Codes of the voice, ``[G]``, for codecs that encode it separately.
        voiced: First frame of the speech and the frame after its end; None if no sound was heard. Silence before and
            after the speech is no part of a reference that is cut from the utterance.
    """

    codes: Tensor
    global_codes: Tensor | None = None
    voiced: tuple[int, int] | None = None


@runtime_checkable
class SpeechSource(Protocol):
    """A corpus: utterances by split, and the audio of each. It must be picklable, because worker processes use it."""

    sample_rate: int

    @property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of everything that determines the speech."""
        ...

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of ``train``, ``validation`` or ``test``."""
        ...

    def audio(self, utterance: Utterance) -> Tensor:
        """The audio of one utterance: float32 ``[N]`` at `sample_rate`, the same on every call.

        Raises:
            ValueError: If it cannot be read; the utterance is then left out.
        """
        ...


@runtime_checkable
class CodedSource(Protocol):
    """A `SpeechSource` that contains codes of the model's codec, so that no codec is needed (if `coded` is true)."""

    coded: bool

    def codes(self, utterance: Utterance) -> SpeechCodes:
        """The codes of one utterance.

        Raises:
            ValueError: If they cannot be read; the utterance is then left out.
        """
        ...


@runtime_checkable
class TimedSource(Protocol):
    """A `SpeechSource` that knows the length of its sound before it is read, such as from the headers of files."""

    def seconds(self, utterance: Utterance) -> float | None:
        """The length of the sound of one utterance, in seconds; None if it is not known.

        Raises:
            ValueError: If the header cannot be read; the utterance is then left out.
        """
        ...


@runtime_checkable
class NamedCodes(Protocol):
    """A corpus of codes that can tell whether they are those of a model."""

    def check_codes(self, backbone: Backbone) -> None:
        """Refuse codes that are not those of a model.

        Raises:
            ValueError: If they are not, or it cannot be known.
        """
        ...


def split_by_name(name: str, validation_share: float, test_share: float) -> str:
    """The split of a name. It depends on the name alone, not on the rest of the corpus."""
    place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    if place < validation_share:
        return "validation"
    return "test" if place < validation_share + test_share else "train"
