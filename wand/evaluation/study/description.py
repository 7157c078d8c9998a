"""The description of a study, ``study.json``. A folder holds one study: another one is refused."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from wand.evaluation.result import MetricColumn
from wand.evaluation.study.study import Study
from wand.evaluation.study.systems import StudySystem
from wand.evaluation.systems import RECORDED
from wand.files.contents import contents_of
from wand.files.plain_values import read_json
from wand.files.typed import build
from wand.files.writing import write_text
from wand.version import __version__

STUDY = "study.json"


@dataclass(frozen=True, slots=True)
class Source:
    """The sentences of a study.

    Args:
        source: What they are, in words.
        count: Number of sentences.
    """

    source: str
    count: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a study consists of.

    Args:
        systems: The systems, in the order of tables.
        sentences: The sentences.
        seeds: The seeds with which every system but the recordings speaks every sentence.
        recognisers: Names of the recognisers.
        language: Language of the texts.
        metrics: The metrics.
        sample_rate: Sample rate of the sounds, in Hz.
        unseen: Speakers whose voices were not trained on; empty if all or none were.
        made_of: What determines the rows, by what it is. Rows that were made of something else are not used.
        versions: Versions of the software that began the study.
    """

    systems: tuple[StudySystem, ...]
    sentences: Source
    seeds: tuple[int, ...]
    recognisers: tuple[str, ...]
    language: str
    metrics: tuple[MetricColumn, ...]
    sample_rate: int
    unseen: tuple[str, ...]
    made_of: dict[str, str]
    versions: dict[str, str]


def settle(description: Description, folder: Path) -> Description:
    """Write the description into the folder of the study, or compare it with the one that is there.

    Returns:
        The description in the folder, which may give the same things other paths.

    Raises:
        ValueError: If the folder holds another study; the message says what differs.
    """
    file = folder / STUDY
    if not file.is_file():
        write_text(file, json.dumps(asdict(description), indent=2, ensure_ascii=False) + "\n")
        return description
    found = read_description(folder)
    before, now = found.made_of, description.made_of
    for what in [*now, *(name for name in before if name not in now)]:
        if before.get(what) != now.get(what):
            raise ValueError(
                f"{folder} has another study: its {what} is {_shown(before, what)}, and not {_shown(now, what)}: give "
                f"another --out, or remove the folder"
            )
    return found


def read_description(folder: Path) -> Description:
    """Read the description of a study.

    Raises:
        ValueError: If there is none, or it is damaged.
    """
    file = folder / STUDY
    if not file.is_file():
        raise ValueError(f"no {STUDY} in {folder}: run `wand evaluate` first")
    found: Any = read_json(file)
    description: Description = build(Description, found, str(file))
    return description


def describe(study: Study, recognisers: Sequence[str], metrics: Sequence[str]) -> Description:
    """The description of a study.

    Args:
        study: The study.
        recognisers: Its recognisers, as they were asked for.
        metrics: Its metrics, as they were asked for.
    """
    sentences, speakers = study.sentences, study.speakers.systems
    recorded = [StudySystem(RECORDED, RECORDED, None, None)] if any(study.recorded) else []
    return Description(
        systems=(*recorded, *(speaker.system for speaker in speakers)),
        sentences=Source(sentences.source, len(sentences.ids)),
        seeds=tuple(study.seeds),
        recognisers=tuple(ear.name for ear in study.recognisers),
        language=study.recognisers[0].language,
        metrics=tuple(MetricColumn.of(metric) for metric in study.metrics),
        sample_rate=study.codec.sample_rate,
        unseen=tuple(sorted(sentences.unseen)),
        made_of={
            "sentences": f"{len(sentences.ids)} sentences, {sentences.made_of}",
            **{f"system {speaker.system.name}": speaker.made_of for speaker in speakers},
            "codec": study.codec.fingerprint,
            "seeds": " ".join(map(str, study.seeds)),
            "recognisers": ", ".join(map(_with_contents, recognisers)),
            "language": study.recognisers[0].language,
            "metrics": ", ".join(map(_with_contents, metrics)),
            **({} if study.reader is None else {"reader of words": study.reader.made_of}),
            **({} if study.recordings else {"system recorded": "left out"}),
            "number of sounds": str(study.sounds),
            "longest speech": f"{study.max_seconds:g} s",
            "number of sentences at once": str(study.group),
            "version of wand": __version__,
        },
        versions={
            "wand": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    )


def _with_contents(name: str) -> str:
    """The name of a recogniser or metric, with a digest of the file or folder that it names."""
    digest = contents_of(Path(name.partition(":")[2] or name))
    return name if digest is None else f"{name} ({digest})"


def _shown(made: Mapping[str, str], what: str) -> str:
    return repr(made[what]) if what in made else "missing"
