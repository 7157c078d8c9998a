"""The files of a test: tables, takes, audio and spectrograms."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from wand.evaluation.pictures import draw_spectrograms
from wand.evaluation.result import TestResult
from wand.evaluation.result_table import to_markdown
from wand.evaluation.takes import spread
from wand.evaluation.test import Speeches, Takes, TestSize
from wand.files.audio import write_audio
from wand.files.names import file_name
from wand.files.typed import reading
from wand.files.writing import write_text

TABLE = "table.json"


def write_result(result: TestResult, folder: Path) -> None:
    """Write ``table.json`` and ``table.md``."""
    write_text(folder / TABLE, json.dumps(result.to_json(), indent=2) + "\n")
    write_text(folder / "table.md", to_markdown(result))


def read_result(folder: Path) -> TestResult:
    """Read the result that `write_result` wrote.

    Raises:
        ValueError: If the folder has no table, or a damaged one.
    """
    path = folder / TABLE
    if not path.is_file():
        raise ValueError(f"no {TABLE} in {folder}: run `wand test` first")
    with reading(path):
        return TestResult.from_json(json.loads(path.read_text(encoding="utf-8")))


def write_speeches(speeches: Speeches, size: TestSize, folder: Path) -> None:
    """Write ``takes.jsonl``, the folder ``sounds`` and ``spectrograms.png``.

    Args:
        speeches: The speech of the systems.
        size: Says how many sentences to write as audio and to draw.
        folder: Folder to write to.
    """
    write_takes(speeches.takes, folder)
    shutil.rmtree(folder / "sounds", ignore_errors=True)  # an earlier test may have written other sentences
    for name, own in speeches.sounds.items():
        for example, sound in zip(speeches.kept[: size.sounds], own, strict=False):
            if len(sound):
                write_audio(sound_file(folder, example.id, name), sound, speeches.sample_rate)
    if size.pictures > 0:
        _draw(speeches, size.pictures, folder / "spectrograms.png")


def sound_file(folder: Path, id: str, system: str) -> Path:
    """The sound of a sentence, spoken by a system, in the folder of a test."""
    return folder / "sounds" / f"{file_name(id)}-{file_name(system)}.wav"


def write_takes(takes: Takes, folder: Path) -> None:
    """Write ``takes.jsonl``."""
    lines = [{"system": name, **asdict(take)} for name, own in takes.items() for take in own]
    write_text(folder / "takes.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _draw(speeches: Speeches, count: int, path: Path) -> None:
    if find_spec("matplotlib") is None:
        warnings.warn('spectrograms need matplotlib: pip install "wand-tts[plots]"', stacklevel=2)
        return
    drawn = spread(speeches.kept, count)
    places = [speeches.kept.index(example) for example in drawn]
    sounds = {
        name: [own[i] for i in places] for name, own in speeches.sounds.items() if not name.startswith("untrained-")
    }
    draw_spectrograms(sounds, [example.text for example in drawn], speeches.sample_rate, path)
