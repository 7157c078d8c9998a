"""Reads ``metadata.csv`` of LJSpeech and of corpora in its format: ``id|text|normalised text``, without quotes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wand.files.text import read_lines

COLUMNS = ("id", "text", "normalized", "speaker")
LJSPEECH = ("id", "text", "normalized")

_WORD = re.compile(r"\w+")
_NAME = re.compile(r"[\w'-]+")


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a table.

    Args:
        number: Number of the line, from 1.
        id: Name of the utterance, without ``wavs/`` and ``.wav``.
        text: The normalised text, or the text if there is no normalised one.
        speaker: Name of the speaker; None if the table has no such column.
    """

    number: int
    id: str
    text: str
    speaker: str | None


def read_table(path: Path, columns: Sequence[str] | None) -> list[TableRow]:
    """Read a table.

    Args:
        path: The file.
        columns: Names of its columns, from `COLUMNS`. None is ``id|text`` or ``id|text|normalized``.

    Raises:
        ValueError: If the names are wrong, or a line cannot be read as these columns; the message names the line.
    """
    rows = [(number, [cell.strip() for cell in line.split("|")]) for number, line in read_lines(path)]
    if columns is None:
        columns = LJSPEECH
        rows = [(number, _filled(cells)) for number, cells in rows]
        _check_ljspeech(path, rows)
    else:
        _check_names(columns)
    return [_row(path, number, cells, columns) for number, cells in rows]


def _filled(cells: list[str]) -> list[str]:
    """Add the normalised text to a line that has none."""
    return [*cells, ""] if len(cells) == 2 else cells


def _row(path: Path, number: int, cells: list[str], columns: Sequence[str]) -> TableRow:
    if len(cells) != len(columns):
        raise ValueError(
            f"{path}, line {number} has {len(cells)} columns, not {len(columns)} ({'|'.join(columns)}): a text cannot "
            f"contain |; if the file has other columns, name them in `columns` of data.source"
        )
    found = dict(zip(columns, cells, strict=True))
    name = found["id"].removeprefix("wavs/")
    name = name[:-4] if name.lower().endswith(".wav") else name
    if not name:
        raise ValueError(f"{path}, line {number} has no id")
    if found.get("speaker") == "":
        raise ValueError(f"{path}, line {number} has no speaker")
    return TableRow(number, name, found.get("normalized") or found.get("text", ""), found.get("speaker"))


def _check_names(columns: Sequence[str]) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or len({*columns}) < len(columns) or "id" not in columns or not {"text", "normalized"} & {*columns}:
        raise ValueError(
            f"columns {', '.join(columns)} of data.source: give id, text or normalized, and optionally speaker, each "
            f"once"
        )


def _check_ljspeech(path: Path, rows: Sequence[tuple[int, list[str]]]) -> None:
    """Refuse what would be read as a normalised text but is the end of a text with a pipe, or a speaker."""
    pairs = [(number, cells[1], cells[2]) for number, cells in rows if len(cells) == 3]
    both = [pair for pair in pairs if pair[2]]
    if len(pairs) >= 2 * len(both):  # most lines have two columns
        for number, text, normalized in both:
            if (_shared_words(text, normalized) or 0.0) < 0.8:
                raise ValueError(
                    f"{path}, line {number} has 3 columns, unlike most lines, and its second text is not the first in "
                    f"other words: a text cannot contain |"
                )
    seconds, thirds = [text for _, text, _ in both], [normalized for _, _, normalized in both]
    for looks, names, columns in (
        (_second_holds_speakers(seconds, thirds), seconds, "[id, speaker, text]"),
        (_third_holds_speakers(seconds, thirds), thirds, "[id, text, speaker]"),
    ):
        if looks:
            raise ValueError(
                f"{path}, line {both[0][0]}: {names[0]!r} looks like the name of a speaker; set `columns` of "
                f"data.source to {columns}, or to [id, text, normalized] if it is a text"
            )


def _second_holds_speakers(seconds: Sequence[str], thirds: Sequence[str]) -> bool:
    """Whether there are several names, and most of them come with several texts; a text has one normalised text."""
    return len({*seconds}) > 1 and _repeats(seconds, thirds)


def _third_holds_speakers(seconds: Sequence[str], thirds: Sequence[str]) -> bool:
    """Whether all are single words that are in no text; a normalised text has the words of its text."""
    pairs = [*zip(seconds, thirds, strict=True)]
    names = all(_NAME.fullmatch(name) and _shared_words(text, name) == 0.0 for text, name in pairs)
    texts = all(len(_WORD.findall(text)) > 1 for text in seconds)
    return len(pairs) > 1 and names and (texts or _repeats(thirds, seconds))


def _repeats(names: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether most names come with several sentences that do not have their words."""
    shared = [share for pair in zip(names, texts, strict=True) if (share := _shared_words(*pair)) is not None]
    said = defaultdict(set)
    for name, text in zip(names, texts, strict=True):
        said[name].add(text)
    half = 0.5 * len(names)
    sentences, repeated = sum(" " in text for text in texts), sum(len(said[name]) > 1 for name in names)
    return sum(shared) <= 0.5 * len(shared) and sentences > half and repeated > half


def _shared_words(text: str, normalized: str) -> float | None:
    """Share of the words with letters that also occur in another text; None if there are none."""
    words = [word for word in _WORD.findall(text.casefold()) if not word.isdigit()]
    joined = "".join(_WORD.findall(normalized.casefold()))
    return sum(word in joined for word in words) / len(words) if words else None
