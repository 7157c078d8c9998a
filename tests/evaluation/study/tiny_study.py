"""A whole study of two tiny models, in this process or in another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from tests.evaluation.extra_metrics import ExtraSeconds
from tests.evaluation.tiny_test import examples, models
from tests.recognition.test_named import Loudness
from wand.attention import AttentionWindow
from wand.data.example import Example
from wand.evaluation.metric import TestMetric
from wand.evaluation.metrics import DEFAULT, open_metric
from wand.evaluation.study.sentences import Sentence, Sentences
from wand.evaluation.study.study import Study
from wand.evaluation.study.systems import Speaker, Speakers, StudySystem, weights_digest
from wand.files.turns import ALL
from wand.recognition import EmbeddedRecogniser

SOUND = torch.linspace(-1, 1, 1600).sin()


class TinySentences(Sentences):
    """The sentences of `tiny_test`; the last one has no recording."""

    source = "five sentences"
    made_of = "five"
    unseen = frozenset({"iris"})

    def __init__(self, made: Sequence[Example]) -> None:
        self.examples = [*made[:-1], without_recording(made[-1])]
        self.ids = [example.id for example in self.examples]
        self.recorded = [example.codes.shape[1] > 0 for example in self.examples]
        self.sizes = [example.codes.shape[1] for example in self.examples]

    def read(self, place: int) -> Sentence:
        return Sentence(self.examples[place], None, SOUND)


def without_recording(example: Example) -> Example:
    return Example(example.id, example.text, example.speaker, example.conditioning, example.codes[:, :0])


def make_study(
    folder: Path, group: int = 2, seeds: Sequence[int] = (0, 3), further: Sequence[TestMetric] = ()
) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    made = models()
    parts = [("teacher", "teacher", None), ("student", "student", 8)]
    speakers = [
        Speaker(
            StudySystem(name, name, weights, size), made[weights], AttentionWindow(size), weights_digest(made[weights])
        )
        for name, weights, size in parts
    ]
    return Study(
        folder,
        Speakers(speakers, made["teacher"].load_codec()),
        TinySentences(examples(made["teacher"])),
        seeds,
        [EmbeddedRecogniser(), Loudness("words/loud")],
        [*map(open_metric, DEFAULT), ExtraSeconds(), *further],
        sounds=2,
        max_seconds=0.5,
        group=group,
    )


def run_shard(rank: int, folder: Path) -> None:
    """One process of a study."""
    make_study(folder).run(ALL)
