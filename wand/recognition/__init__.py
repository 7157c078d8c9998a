"""Who listens: the embedded recogniser, or any of transformers."""

from __future__ import annotations

from wand.recognition.base import Recogniser
from wand.recognition.embedded import EmbeddedRecogniser
from wand.recognition.pretrained import PretrainedRecogniser

EMBEDDED = "embedded"

__all__ = ["EMBEDDED", "EmbeddedRecogniser", "PretrainedRecogniser", "Recogniser", "open_recogniser"]


def open_recogniser(name: str = EMBEDDED, device: str = "cpu") -> Recogniser:
    """A recogniser by name.

    Args:
        name: ``embedded`` (for the speech of `wand.demo`), or a folder or name that transformers opens.
        device: Where a model of transformers runs.
    """
    return EmbeddedRecogniser() if name == EMBEDDED else PretrainedRecogniser(name, device)
