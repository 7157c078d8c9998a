"""Speech recognisers: the embedded one, or any model that transformers opens."""

from __future__ import annotations

from functools import lru_cache

from wand.recognition.base import Recogniser
from wand.recognition.embedded import EmbeddedRecogniser
from wand.recognition.pretrained import PretrainedRecogniser

EMBEDDED = "embedded"

__all__ = ["EMBEDDED", "EmbeddedRecogniser", "PretrainedRecogniser", "Recogniser", "open_recogniser"]


@lru_cache(maxsize=2)
def open_recogniser(name: str = EMBEDDED, device: str = "cpu") -> Recogniser:
    """Open a recogniser by name. It is cached, because every validation and table uses it.

    Args:
        name: ``embedded`` (for the speech of `wand.demo`), or a folder or name that transformers opens.
        device: Device of a transformers model; the embedded recogniser runs on the CPU.
    """
    return EmbeddedRecogniser() if name == EMBEDDED else PretrainedRecogniser(name, device)
