"""The metrics that have names: found by name, and equal to the functions of `wand.metrics`."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.metrics.sounds import RATE, constant, silence, voice
from tests.metrics.speaker_models import write_speaker_model
from wand.evaluation.metric import SpokenSentence, TestMetric, measure_all
from wand.evaluation.metrics import KNOWN, recorded
from wand.evaluation.quality import Take
from wand.metrics.recorded import distances
from wand.metrics.similarity import similarity
from wand.metrics.x_vectors import XVectors

RECORDED = torch.cat([constant(150, 1.1), silence(0.4)])
SOUNDS = (voice(torch.linspace(140, 170, RATE + 800)), torch.cat([silence(0.5), constant(160, 1.5)]), torch.zeros(0))


def class_of(name: str) -> Any:
    module, _, kind = KNOWN[name].rpartition(".")
    return getattr(import_module(module), kind)


def spoken(audio: Tensor) -> SpokenSentence:
    seconds, recorded_seconds = len(audio) / RATE, len(RECORDED) / RATE
    take = Take("u0", "anna", 0, "text", "text", "stop token", seconds, recorded_seconds, 0, 4, 0, 1)
    return SpokenSentence(None, take, torch.zeros(1, 1), audio, RECORDED, RATE)


def test_names_are_those_of_the_classes():
    for name in KNOWN:
        kind = class_of(name)
        assert issubclass(kind, TestMetric)
        assert kind.name == name


def test_values_are_those_of_the_functions(tmp_path: Path):
    folder = str(write_speaker_model(tmp_path))
    names = ("mcd", "f0", "voicing", "duration", "silence")
    metrics = [*(class_of(name)() for name in names), class_of("similarity")(folder)]
    found = measure_all(metrics, [spoken(sound) for sound in SOUNDS])
    embed = XVectors(folder)
    for sound, values in zip(SOUNDS[:2], found[:2], strict=True):
        wanted = distances(sound, RECORDED, RATE)
        assert values["mcd"] == wanted.mcd
        assert values["f0"] == wanted.f0
        assert values["voicing"] == 100 * wanted.voicing
        assert values["duration"] == pytest.approx(len(sound) / len(RECORDED))
        assert values["similarity"] == similarity(sound, RECORDED, RATE, embed)
    reference = constant(120, 1.2)
    (own,) = metrics[-1].measure([replace(spoken(SOUNDS[0]), reference=reference)])
    assert own == similarity(SOUNDS[0], reference, RATE, embed)
    assert found[0]["silence"] == 0
    assert found[1]["silence"] == pytest.approx(100 * 0.5 / 2.0, abs=1)
    nothing = {"mcd": None, "f0": None, "voicing": None, "duration": 0.0, "silence": None, "similarity": None}
    assert found[2] == nothing


def test_what_was_measured_is_forgotten_with_the_take():
    one = spoken(SOUNDS[0])
    assert recorded.measured(one) is recorded.measured(one)
    before = len(recorded._measured)
    del one
    assert len(recorded._measured) == before - 1
