"""The rows of a study, and the files that hold them. A file grows by whole lines and survives the end of a process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from wand.files.typed import reading
from wand.files.writing import write_bytes

ROWS = "rows.jsonl"


class Key(NamedTuple):
    """What names a row: one sentence, spoken once by one system with one seed."""

    id: str
    system: str
    seed: int


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors in one transcript; see `wand.metrics.words.errors`."""

    wrong_letters: int
    letters: int
    wrong_words: int
    words: int


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One sentence, spoken once.

    Args:
        id: Id of the sentence.
        system: Name of the system.
        seed: Seed of the take.
        speaker: Speaker whose voice was cloned.
        text: The text.
        heard: The transcript of every recogniser, by its name.
        ended: Why the speech ended, a `wand.decoding.stopping.StopReason`.
        seconds: Duration of the speech.
        recorded_seconds: Duration of the recording; None if there is none.
        errors: The errors in each transcript, by the recogniser's name.
        metrics: Value of each metric, by its name; None if it is undefined.
        sound: Sound file of the take in the folder of the study; None if it was not kept.
    """

    id: str
    system: str
    seed: int
    speaker: str
    text: str
    heard: dict[str, str]
    ended: str
    seconds: float
    recorded_seconds: float | None
    errors: dict[str, Errors]
    metrics: dict[str, float | None]
    sound: str | None

    @property
    def key(self) -> Key:
        """What names the row."""
        return Key(self.id, self.system, self.seed)

    def to_line(self) -> str:
        """The row as a line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Rebuild a row from the values of its line."""
        errors = {name: Errors(**own) for name, own in plain["errors"].items()}
        return cls(**{**plain, "errors": errors})


def read_rows(file: Path) -> list[StudyRow]:
    """The rows of a file. A last line without its end is left out: it is being written, or its writer was killed.

    Raises:
        ValueError: If a line is no row; the message gives the file and the line.
    """
    lines = file.read_bytes().split(b"\n")[:-1]
    rows = []
    for number, line in enumerate(lines, start=1):
        with reading(f"{file}, line {number}"):
            rows.append(StudyRow.from_plain(json.loads(line)))
    return rows


def drop_broken_line(file: Path) -> None:
    """Cut off a last line without its end. Only the process that writes the file may do this."""
    if not file.is_file():
        return
    with file.open("r+b") as opened:
        opened.truncate(opened.read().rfind(b"\n") + 1)


def append_rows(file: Path, rows: Sequence[StudyRow]) -> None:
    """Write rows at the end of a file, and wait until they are on the disk."""
    with file.open("ab") as opened:
        opened.write("".join(row.to_line() for row in rows).encode())
        opened.flush()
        os.fsync(opened.fileno())


def write_rows(file: Path, rows: Iterable[StudyRow]) -> None:
    """Write a whole file, sorted by sentence, system and seed."""
    write_bytes(file, "".join(row.to_line() for row in sorted(rows, key=lambda row: row.key)).encode())
