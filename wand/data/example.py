"""A prepared utterance, or the reason why an utterance was left out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wand.model.batch import Conditioning


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One prepared utterance.

    Args:
        id: Name of the utterance.
        text: The words that are said.
        speaker: Name of the speaker.
        conditioning: The tensors that the adapter's conditioner made.
        codes: Codes of the speech, ``[K, F]``.
        reference: Id of the utterance that served as the reference.
    """

    id: str
    text: str
    speaker: str
    conditioning: Conditioning
    codes: Tensor
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An utterance that was left out.

    Args:
        id: Name of the utterance.
        why: The kind of reason in a few words, for counting.
        detail: The full reason.
    """

    id: str
    why: str
    detail: str
