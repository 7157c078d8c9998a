"""What there is to listen to: the sentences of a run or a study, spoken by its systems."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wand.evaluation.result_files import read_result, sound_file
from wand.evaluation.study.description import STUDY
from wand.evaluation.systems import RECORDED
from wand.files.plain_values import read_json
from wand.files.text import read_lines
from wand.files.typed import reading
from wand.report.events import event_files, read_texts
from wand.report.source import Source

# Kinds of systems in the order in which they are heard. Systems of other kinds follow.
ORDER = ("reference", "recorded", "teacher", "untrained", "student")


@dataclass(frozen=True)
class Sound:
    """One sentence, spoken by one system.

    Args:
        system: Name of the system.
        kind: Kind of the system: one of `ORDER`, or another name.
        file: The sound file.
        heard: What the recogniser heard; None if it did not listen.
        wrong: The errors in it, in words; None if it did not listen.
    """

    system: str
    kind: str
    file: Path
    heard: str | None = None
    wrong: str | None = None

    @property
    def is_main(self) -> bool:
        """Whether the sound is shown at once: further untrained windows and students without a window are not."""
        return self.kind in ORDER and (self.kind != "untrained" or self.system == self.kind)


@dataclass(frozen=True)
class Sentence:
    """A sentence and its sounds.

    Args:
        id: Id of the sentence; the same sentence has the same id in other runs.
        text: The text.
        speaker: The voice; empty if it is not known.
        sounds: The sounds, in the order of `ORDER`.
    """

    id: str
    text: str
    speaker: str
    sounds: Sequence[Sound]


def find_sentences(source: Source) -> tuple[list[Sentence], str]:
    """The sentences that can be heard, and the folder of their sounds.

    Sounds of a study come first, then those of a test, then those of the last validation.
    """
    for folder, find in ((source.study, of_study), (source.test, of_test), (source.run, of_validation)):
        found = find(folder) if folder is not None else []
        if found:
            return found, source.named(found[0].sounds[0].file.parent)
    return [], ""


def of_study(folder: Path) -> list[Sentence]:
    """The sentences of a study: of every system the first seed that has a sound."""
    sounds: dict[str, dict[str, Sound]] = defaultdict(dict)
    about = {}
    with reading(folder):
        kinds = {system["name"]: system["kind"] for system in read_json(folder / STUDY)["systems"]}
        for row in sorted(read_rows(folder / "rows.jsonl"), key=lambda row: row["seed"]):
            id, name = row["id"], row["system"]
            about[id] = (row["text"], row["speaker"])
            if row["sound"] is not None and (file := folder / row["sound"]).is_file() and name not in sounds[id]:
                check_inside(file, folder)
                recogniser, heard = next(iter(row["heard"].items()), (None, None))
                wrong = None if recogniser is None else _wrong(row["errors"][recogniser])
                sounds[id][name] = Sound(name, kinds[name], file, heard, wrong)
    return [_sentence(id, *about[id], list(own.values())) for id, own in sorted(sounds.items()) if own]


def of_test(folder: Path) -> list[Sentence]:
    """The sentences of a test, whose sounds are those of its first seed."""
    kinds: dict[str, str] = {RECORDED: RECORDED} | {
        row.system.name: row.system.kind for row in read_result(folder).rows
    }
    rows = folder / "takes.jsonl"
    sentences = []
    with reading(rows):
        takes: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for take in read_rows(rows):
            takes[take["id"]].setdefault(take["system"], take)
        for id, own in takes.items():
            sounds = []
            for name, kind in kinds.items():
                file = sound_file(folder, id, name)
                if file.is_file():
                    check_inside(file, folder)
                    heard = (own[name]["heard"], _wrong(own[name])) if name in own else (None, None)
                    sounds.append(Sound(name, kind, file, *heard))
            if sounds:
                about = next(iter(own.values()))
                sentences.append(_sentence(id, about["text"], about["speaker"], sounds))
    return sentences


def of_validation(run: Path) -> list[Sentence]:
    """The sentences of the folder ``samples``: the recording, the teacher, and the student of the last validation."""
    files = sorted((run / "samples").glob("*-*.wav"))
    sounds: dict[str, list[Sound]] = defaultdict(list)
    for file in files:
        number, _, system = file.stem.partition("-")
        sounds[number].append(Sound(system, system, file))
    texts = read_texts(run) if sounds and event_files(run) else {}
    return [
        _sentence(f"validation-{i}", texts.get(f"sentence/{i}", f"sentence {i}"), "", own)
        for i, own in sorted(sounds.items())
    ]


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; none if it is not there.

    Raises:
        ValueError: If a line is no JSON.
    """
    rows = []
    for number, line in read_lines(file) if file.is_file() else ():
        with reading(f"{file}, line {number}"):
            rows.append(json.loads(line))
    return rows


def check_inside(file: Path, folder: Path) -> None:
    """Check that a file that a folder names is in this folder, so that no other file gets into a report.

    Raises:
        ValueError: If it is not.
    """
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is outside the folder {folder} that names it")


def _sentence(id: str, text: str, speaker: str, sounds: Sequence[Sound]) -> Sentence:
    def place(sound: Sound) -> int:
        return ORDER.index(sound.kind) if sound.kind in ORDER else len(ORDER)

    return Sentence(id, text, speaker, sorted(sounds, key=place))


def _wrong(errors: Mapping[str, Any]) -> str:
    return f"{errors['wrong_letters']} of {errors['letters']} letters wrong"
