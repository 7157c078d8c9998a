"""Speech recognisers: the embedded one, any model that transformers opens, or a class of the user."""

from __future__ import annotations

from functools import lru_cache

from wand.recognition.base import Recogniser
from wand.recognition.embedded import EmbeddedRecogniser
from wand.recognition.named import class_and_weights, open_named
from wand.recognition.piecewise import Piecewise
from wand.recognition.pretrained import PretrainedRecogniser
from wand.text.characters import base_language

EMBEDDED = "embedded"

__all__ = ["EMBEDDED", "EmbeddedRecogniser", "Piecewise", "PretrainedRecogniser", "Recogniser", "open_recogniser"]


@lru_cache(maxsize=2)
def open_recogniser(name: str = EMBEDDED, device: str = "cpu", language: str = "en") -> Recogniser:
    """Open a recogniser by name. It is cached, because every validation and table uses it.

    Args:
        name: ``embedded`` (for the speech of `wand.demo`), a folder or name that transformers opens, or
            ``CLASS_PATH:WEIGHTS`` for a class with the interface of `Recogniser` (``my_package.Ear:weights/large``).
        device: Device of the model; the embedded recogniser runs on the CPU.
        language: Language of the speech (``en``, ``zh``).

    Raises:
        ValueError: If the recogniser cannot be opened, or does not know the language.
    """
    if (named := class_and_weights(name)) is not None:
        return open_named(*named, device, language)
    if name != EMBEDDED:
        opened = PretrainedRecogniser(name, device, language=language)
        return Piecewise(opened) if opened.writes else opened
    if base_language(language) != "en":
        raise ValueError(f"the embedded recogniser knows English only, and the language is {language}: give another")
    return EmbeddedRecogniser()
