"""Lists of sentences in the format of Seed-TTS-eval (``meta.lst``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wand.files.text import read_lines
from wand.metrics.words import errors

FORMS = "name|prompt text|prompt sound|text, and perhaps |recorded sound"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list.

    Args:
        id: Name of the sentence.
        prompt_text: Transcript of the prompt.
        prompt: Sound file of the voice to clone.
        text: The text to speak.
        recording: Sound file of the text, spoken by the same person; None if there is none.
        where: File and number of the line, for errors.
    """

    id: str
    prompt_text: str
    prompt: Path
    text: str
    recording: Path | None
    where: str


def read_list(file: Path, language: str = "en") -> list[Line]:
    """Read a list. Paths are relative to the folder of the list, or absolute.

    Args:
        file: The list.
        language: Language of the texts.

    Raises:
        ValueError: If a line has another number of fields, an empty field, a sound file that does not exist, a text
            without words or the name of an earlier line; the message gives the file and the line.
    """
    lines: dict[str, Line] = {}
    for number, text in read_lines(file):
        line = _read_line(text, file.parent, f"{file}, line {number}", language)
        if line.id in lines:
            raise ValueError(f"{line.where}: {line.id!r} is also the name of {lines[line.id].where}")
        lines[line.id] = line
    if not lines:
        raise ValueError(f"{file} has no lines: write {FORMS}")
    return [*lines.values()]


def _read_line(text: str, folder: Path, where: str, language: str) -> Line:
    fields = [field.strip() for field in text.split("|")]
    if len(fields) not in (4, 5):
        raise ValueError(f"{where} has {len(fields)} fields: write {FORMS}")
    for name, field in zip(("name", "prompt text", "prompt sound", "text", "recorded sound"), fields, strict=False):
        if not field:
            raise ValueError(f"{where}: the {name} is empty")
    name, prompt_text, prompt, said, *recording = fields
    sounds = [folder / sound for sound in (prompt, *recording)]
    for sound in sounds:
        if not sound.is_file():
            raise ValueError(f"{where}: no sound file at {sound}")
    try:
        errors("", said, language)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Line(name, prompt_text, sounds[0], said, sounds[1] if recording else None, where)
