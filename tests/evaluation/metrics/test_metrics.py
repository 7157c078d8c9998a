"""The metrics that have names: found by name, and equal to the functions of `wand.metrics`."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.metrics.sounds import RATE, constant, silence, voice
from tests.metrics.speaker_models import write_speaker_model
from wand.alignment.times import TimedWord
from wand.evaluation.kept import KeptBySound
from wand.evaluation.metric import SpokenSentence, TestMetric, measure_all
from wand.evaluation.metrics import KNOWN, recorded
from wand.evaluation.metrics import similarity as similarity_metric
from wand.evaluation.quality import Take
from wand.metrics.prosody import prosody
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


@pytest.mark.parametrize(("kept", "embedded"), [(1024, 6 + 2), (1, 6 + 3)])
def test_a_voice_is_embedded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, embedded: int):
    monkeypatch.setattr(similarity_metric, "KEPT", kept)
    folder = str(write_speaker_model(tmp_path))
    metric, embed = class_of("similarity")(folder), XVectors(folder)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    metric._embed._model.register_forward_hook(count)
    voices = [constant(120, 1.2), constant(200, 1.3)]
    for reference in (voices[0], voices[1], voices[0].clone()):  # read again, it is the same voice
        takes = [replace(spoken(sound), reference=reference) for sound in SOUNDS[:2]]
        assert metric.measure(takes) == [similarity(sound, reference, RATE, embed) for sound in SOUNDS[:2]]
    assert calls == embedded
    assert len(metric._voices) <= kept


def test_drifts_are_those_of_the_parts_of_the_sound():
    names = ("pitch_drift", "level_drift", "rate_drift")
    sound = torch.cat([constant(100, 1.0), constant(120, 1.0), 0.5 * constant(150, 1.0)])
    one = spoken(sound)
    said = replace(one.take, text="One, two 3 four five six.")
    times = {"One,": 0.0, "two": 0.5, "3": 1.0, "four": 1.5, "five": 2.0, "six.": 2.5}
    words = tuple(TimedWord(text, begin, begin + 0.5) for text, begin in times.items())
    made = {
        "spoken": replace(one, take=said, words=words),
        "not to its end": replace(one, take=said, words=words[:-1]),
        "of two words": replace(one, take=replace(said, text="One, two"), words=words[:2]),
        "not read": replace(one, take=said),
        "silent": replace(spoken(torch.zeros(0)), take=said),
    }
    found = dict(zip(made, measure_all([class_of(name)() for name in names], [*made.values()]), strict=True))
    values = found["spoken"]
    assert values["pitch_drift"] == pytest.approx(12 * math.log2(1.5), abs=0.05)
    assert values["level_drift"] == pytest.approx(-6.02, abs=0.2)
    assert values["rate_drift"] == pytest.approx(100 * (7 / 6 - 1), abs=2)  # "five six." in a second, and "One, two"
    assert found["silent"] == dict.fromkeys(names)
    assert all(found[how]["rate_drift"] is None for how in made if how != "spoken")


def test_what_was_measured_is_forgotten_with_the_take():
    one = spoken(SOUNDS[0])
    assert recorded.measured(one) is recorded.measured(one)
    before = len(recorded._measured)
    del one
    assert len(recorded._measured) == before - 1


def test_frames_of_a_sound_are_measured_once_and_forgotten_with_it():
    sounds = [sound.clone() for sound in SOUNDS[:2]]
    asked: list[int] = []
    kept = KeptBySound(lambda sound, rate: asked.append(rate) or prosody(sound, rate))
    for sound in sounds * 3:
        torch.testing.assert_close(kept(sound, RATE).pitch, prosody(sound, RATE).pitch, rtol=0, atol=0, equal_nan=True)
    assert asked == [RATE, RATE]
    assert len(kept) == 2
    del sound, sounds[0]
    assert len(kept) == 1
