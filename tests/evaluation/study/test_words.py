"""One student reads the words of the takes of all systems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

from tests.evaluation.study.tiny_study import SOUND, make_study
from wand.alignment.times import timed_words
from wand.alignment.words import word_times
from wand.attention import AttentionWindow
from wand.codecs.reference import Reference
from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.evaluation.metrics import open_metric
from wand.evaluation.study import words
from wand.evaluation.study.description import describe
from wand.files.turns import ALL
from wand.model.alignment import AlignmentHead
from wand.model.backbone import Backbone
from wand.speech.voices import read_voice

NAME = "reader of words"


class Kept(TestMetric):
    """Keeps the takes."""

    name = "words"
    title = "words"
    legend = "number of words"

    def __init__(self) -> None:
        self.takes: list[SpokenSentence] = []

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        self.takes += spoken
        return [float(len(one.words)) for one in spoken]


def test_the_student_reads_what_every_system_has_said(tmp_path: Path) -> None:
    kept, drift = Kept(), open_metric("rate_drift")
    study = make_study(tmp_path, further=[kept, drift])
    student = study.speakers.systems[-1].model
    student.alignment_heads = (AlignmentHead(1, 1),)
    assert describe(study, ["embedded"], []).made_of[NAME] == "student, alignment heads (1, 1)"
    study.run(ALL)
    rows = [*study.finished().values()]
    assert {row.system for row in rows if row.metrics["words"]} == {"recorded", "teacher", "student"}
    voice = read_voice(study.codec, SOUND, study.codec.sample_rate)
    assert len(kept.takes) == len(rows)
    for one in kept.takes:
        text, codes = one.example.text, one.codes
        words = word_times(student, AttentionWindow(8), text, voice, codes) if codes.shape[1] else ()
        assert one.words == tuple(timed_words(words, student))
    values = [None if value is None or math.isnan(value) else value for value in drift.measure(kept.takes)]
    assert sorted(values, key=str) == sorted((row.metrics["rate_drift"] for row in rows), key=str)


def test_the_voice_has_its_name_for_prompts_that_need_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path, seeds=[0], further=[open_metric("rate_drift")])
    study.speakers.systems[-1].model.alignment_heads = (AlignmentHead(1, 1),)
    voices = []

    def spy(model: Backbone, window: AttentionWindow, text: str, voice: Reference, codes: Tensor) -> list[float]:
        voices.append(voice)
        return word_times(model, window, text, voice, codes)

    monkeypatch.setattr(words, "word_times", spy)
    sentence = study.sentences.read(0)
    assert study.reader is not None
    assert study.reader(sentence, sentence.example.codes)
    assert [voice.speaker for voice in voices] == [sentence.example.speaker] == ["anna"]


def test_without_alignment_heads_times_are_not_known(tmp_path: Path) -> None:
    study = make_study(tmp_path, seeds=[0], further=[open_metric("rate_drift")])
    assert study.reader is None
    assert NAME not in describe(study, ["embedded"], []).made_of
    study.run(ALL)
    assert {row.metrics["rate_drift"] for row in study.finished().values()} == {None}
