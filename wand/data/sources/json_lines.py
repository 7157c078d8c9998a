"""Reads one line of a manifest and checks the types of its values."""

from __future__ import annotations

import json
import math
from typing import Any

from wand.data.sources.source import SPLITS

KEYS = ("id", "text", "audio", "speaker", "reference", "split", "codes", "global_codes")
# Names are strings; numbers are read as names, too.
NAMES = ("id", "speaker", "reference")


def read_object(text: str, place: str) -> dict[str, Any]:
    """The object of one line, without the keys whose value is null.

    Args:
        text: The line.
        place: File and line, for the error message.

    Raises:
        ValueError: If the line is not a JSON object, or a value has the wrong type.
    """
    try:
        line = json.loads(text, object_pairs_hook=tuple)  # an object is a tuple of pairs, an array is a list
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not valid JSON ({error}): write one object per line") from error
    if not isinstance(line, tuple):
        raise ValueError(f"{place} is not a JSON object: write one object per line, with text and audio or codes")
    names = [name for name, _ in line]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{place} has the key {name!r} twice")
    found = {name: value for name, value in line if value is not None}
    _check(found, place)
    return found


def _check(line: dict[str, Any], place: str) -> None:
    for key in NAMES:
        value = line.get(key, "")
        number = type(value) is int or (type(value) is float and math.isfinite(value))
        if not isinstance(value, str) and not number:
            raise ValueError(f"{place}: {key} must be a name in quotes, not {_short(value)}")
    if not isinstance(line.get("text"), str):
        given = f", not {_short(line['text'])}" if "text" in line else ""
        raise ValueError(f"{place} has no text: it must be a string{given}")
    for key in (*NAMES, "text"):
        try:
            str(line.get(key, "")).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{place}: {key} has half of a character (\\u{ord(error.object[error.start]):04x})"
            ) from error
    if "audio" not in line and "codes" not in line:
        raise ValueError(f"{place} has neither audio nor codes; its keys are {', '.join(line)}")
    for key in ("audio", "codes", "global_codes"):
        value = line.get(key, "x")
        if (key == "audio" and not isinstance(value, str)) or value == "" or (isinstance(value, str) and "\0" in value):
            raise ValueError(f"{place}: {key} must be the path of a file, not {_short(value)}")
    if line.get("split", SPLITS[0]) not in SPLITS:
        raise ValueError(f"{place}: split {_short(line['split'])} is not one of {', '.join(SPLITS)}")


def _short(value: Any) -> str:
    """A value as a message shows it."""
    shown = "an object" if isinstance(value, tuple) else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
