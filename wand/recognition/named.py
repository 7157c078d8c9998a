"""Recognisers of the user: a class by import path, with its weights, as in ``my_package.Ear:weights/large``."""

from __future__ import annotations

import importlib
import re

from wand.recognition.base import Recogniser

# A class path has a dot, so the drive of a Windows path is none.
NAMED = re.compile(r"(?P<path>[^\W\d]\w*(\.[^\W\d]\w*)+):(?P<weights>.+)", re.DOTALL)


def class_and_weights(name: str) -> tuple[str, str] | None:
    """The class path and the weights that the name of a recogniser gives; None if it names no class."""
    found = NAMED.fullmatch(name)
    return None if found is None else (found["path"], found["weights"])


def open_named(path: str, weights: str, device: str, language: str) -> Recogniser:
    """Open a recogniser of the user.

    Args:
        path: Import path of the class. It is called with `weights`, and with `device` and `language` by name.
        weights: Its weights, in words that the class understands, such as a folder.
        device: Device of the model.
        language: Language of the speech.

    Raises:
        ValueError: If the class cannot be imported, or is no recogniser.
    """
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"recogniser {path!r} cannot be imported ({error}): give CLASS_PATH:WEIGHTS of a class that Python finds "
            f"from here"
        ) from error
    if not (isinstance(found, type) and callable(getattr(found, "transcribe", None))):
        raise ValueError(f"recogniser {path!r} is no class with a method `transcribe`: see wand.recognition.Recogniser")
    recogniser: Recogniser = found(weights, device=device, language=language)
    for attribute in ("name", "language"):
        if not isinstance(getattr(recogniser, attribute, None), str):
            raise ValueError(f"recogniser {path!r} has no text `{attribute}`: see wand.recognition.Recogniser")
    return recogniser
