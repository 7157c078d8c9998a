"""Who listens: the embedded recogniser, or any of transformers."""

from __future__ import annotations

from functools import lru_cache

from wand.recognition.base import Recogniser
from wand.recognition.embedded import EmbeddedRecogniser
from wand.recognition.pretrained import PretrainedRecogniser

EMBEDDED = "embedded"

__all__ = ["EMBEDDED", "EmbeddedRecogniser", "PretrainedRecogniser", "Recogniser", "open_recogniser"]


@lru_cache(maxsize=2)
def open_recogniser(name: str = EMBEDDED, device: str = "cpu") -> Recogniser:
    """A recogniser by name; kept, since every validation and table asks for it again.

    Args:
        name: ``embedded`` (for the speech of `wand.demo`), or a folder or name that transformers opens.
        device: Where a model of transformers runs.
    """
    return EmbeddedRecogniser() if name == EMBEDDED else PretrainedRecogniser(name, device)
