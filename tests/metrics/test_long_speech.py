"""Metrics of long speech against what was put into the sounds and transcripts."""

from __future__ import annotations

import math

import pytest
import torch

from tests.metrics.sounds import RATE, constant, silence
from tests.metrics.test_words import Parrot
from wand.metrics import LongErrors, Steadiness

SENTENCES = ["our day was long", "new cats sat down", "we left the house"]
TEXT = " ".join(SENTENCES)


def test_errors_add_up_over_utterances_and_processes() -> None:
    heard = [TEXT, TEXT.replace("new cats sat down ", ""), TEXT + " the house", TEXT.replace("house", "horse")]
    metric, other = LongErrors(Parrot(*heard[:3])), LongErrors(Parrot(*heard[3:]))
    metric.update([silence(1)] * 2, RATE, [SENTENCES] * 2)
    metric.update([silence(1)], RATE, [SENTENCES])
    other.update([silence(1)], RATE, [SENTENCES])
    metric.merge_state(other)
    found = {name: float(value) for name, value in metric.compute().items()}
    letters = [len(SENTENCES[0]) + 1, len(SENTENCES[1]) + 1, len(SENTENCES[2])]
    assert found == pytest.approx(
        {
            "cer": (18 + 10 + 1) / (4 * len(TEXT)),
            "cer_first": 0,
            "cer_middle": 18 / (4 * letters[1]),
            "cer_last": 11 / (4 * letters[2]),
            "growth": 11 / (4 * letters[2]),
            "missing": 1,
            "skip": 18,
            "insertion": 10,
        }
    )


def test_medians_are_over_all_seams_and_utterances() -> None:
    rising = torch.cat([constant(100, 2), silence(0.5), constant(110, 2), silence(0.5), constant(120, 2)])
    level = constant(100, 3)
    metric, other = Steadiness(), Steadiness()
    metric.update([rising, silence(1)], RATE, [[2.25, 4.75], [0.5]])
    other.update([level, level * 0.5], RATE, [[1.5], []])
    metric.merge_state(other)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["pitch_drift"] == pytest.approx(0, abs=0.01)
    assert found["level_drift"] == pytest.approx(0, abs=0.1)
    assert found["seam_pitch"] == pytest.approx(12 * math.log2(120 / 110), abs=0.03)
    assert found["seam_level"] == pytest.approx(0, abs=0.3)
    assert found["seam_pause"] == pytest.approx(0.5, abs=0.03)


def test_without_anything_to_measure_everything_is_nan() -> None:
    metric = Steadiness()
    metric.update([silence(0)], RATE, [[]])
    assert all(value.isnan() for value in metric.compute().values())
