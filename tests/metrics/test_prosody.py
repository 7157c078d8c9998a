"""Pitch, level, pauses and similarity of parts against sounds that were made with known ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.metrics.sounds import RATE, constant, silence
from wand.metrics.prosody import Prosody, by_part, prosody, rate_drift, slices, thirds
from wand.metrics.seams import seams
from wand.metrics.similarity import similarity_by_part


def decibels(sound: Tensor) -> float:
    return 10 * math.log10(float(sound.square().mean()))


def test_parts_have_the_pitch_and_level_that_they_were_made_with() -> None:
    made = [constant(100, 3), silence(3), constant(150, 3) * 0.5]
    figures = by_part(prosody(torch.cat(made), RATE), thirds(9))
    assert figures.pitch[[0, 2]].tolist() == pytest.approx([100, 150], rel=2e-3)
    assert figures.level[[0, 2]].tolist() == pytest.approx([decibels(made[0]), decibels(made[2])], abs=0.1)
    assert figures.pitch[1].isnan()
    assert figures.level[1].isnan()
    assert figures.active.tolist() == pytest.approx([3, 0, 3], abs=0.02)
    assert figures.pitch_drift == pytest.approx(12 * math.log2(1.5), abs=0.05)
    assert figures.level_drift == pytest.approx(-6.02, abs=0.1)


def test_rates_count_active_speech_only() -> None:
    sound = torch.cat([constant(100, 2), silence(1), constant(100, 3), silence(3)])
    rates = by_part(prosody(sound, RATE), [0, 3, 6, 9]).rates([20, 30, 5])
    assert rates[:2].tolist() == pytest.approx([10, 10], rel=0.02)
    assert rates[2].isnan()


def test_short_gaps_are_speech_and_long_ones_are_pauses() -> None:
    tone = constant(120, 1)
    for gap, active in ((0.1, 2.1), (0.5, 2.0)):
        measured = prosody(torch.cat([silence(1), tone, silence(gap), tone, silence(1)]), RATE)
        assert by_part(measured, [0, measured.seconds]).active.item() == pytest.approx(active, abs=0.03)


def test_edges_of_parts() -> None:
    assert thirds(30) == [0, 10, 20, 30]
    assert slices(34) == [0, 10, 20, 34]
    assert slices(36) == [0, 10, 20, 30, 36]
    assert slices(2) == [0, 2]


@pytest.mark.parametrize("seconds", [0.0, 0.001, 1.0])
def test_nothing_to_measure_is_nan_and_no_error(seconds: float) -> None:
    for value in (0.0, math.nan):
        measured = prosody(silence(seconds) + value, RATE)
        figures = by_part(measured, thirds(seconds))
        assert figures.pitch.isnan().all()
        assert figures.level.isnan().all()
        assert figures.active.tolist() == [0, 0, 0]
        assert math.isnan(figures.pitch_drift)
        assert math.isnan(figures.level_drift)
        steps = seams(measured, [seconds / 2, 7.0])
        assert steps.pitch.isnan().all()
        assert steps.level.isnan().all()
        assert len(seams(measured, []).pitch) == 0


def test_seams_have_the_steps_and_pauses_that_they_were_made_with() -> None:
    made = [constant(100, 2), constant(120, 2) * 0.5, silence(0.4), constant(90, 2), constant(90, 2)]
    steps = seams(prosody(torch.cat(made), RATE), [2.0, 4.3, 6.4])
    assert steps.pitch.tolist() == pytest.approx([3.16, 4.98, 0], abs=0.05)
    assert steps.level.tolist() == pytest.approx(
        [decibels(made[0]) - decibels(made[1]), decibels(made[3]) - decibels(made[1]), 0], abs=0.1
    )
    assert steps.pause.tolist() == pytest.approx([0, 0.4, 0], abs=0.02)


def test_context_leaves_out_what_is_far_from_the_seam() -> None:
    """Both sentences begin at 100 Hz and end at 150 Hz."""
    sentence = torch.cat([constant(100, 2), constant(150, 1)])
    measured = prosody(torch.cat([sentence, sentence]), RATE)
    assert float(seams(measured, [3.0]).pitch) == pytest.approx(0, abs=0.05)
    assert float(seams(measured, [3.0], context=0.5).pitch) == pytest.approx(12 * math.log2(1.5), abs=0.05)


def high_and_low(sound: Tensor, sample_rate: int) -> Tensor:
    """Power below and above 400 Hz."""
    power = torch.fft.rfft(sound).abs().square()
    cut = 400 * len(sound) // sample_rate
    return torch.stack([power[:cut].sum(), power[cut:].sum()])


def test_a_part_in_the_voice_of_the_reference_is_similar() -> None:
    time = torch.arange(2 * RATE) / RATE
    low, high = (0.1 * (2 * math.pi * hertz * time).sin() for hertz in (200, 800))
    found = similarity_by_part(torch.cat([low, high, silence(2)]), RATE, low * 3, [0, 2, 4, 6], high_and_low)
    assert found[:2].tolist() == pytest.approx([1, 0], abs=1e-3)
    assert found[2].isnan()
    assert similarity_by_part(low, RATE, silence(3), [0, 2], high_and_low).isnan().all()


def test_speech_that_becomes_faster_has_a_drift_of_rate() -> None:
    frames = Prosody(torch.full((600,), 100.0), torch.zeros(600), torch.ones(600, dtype=torch.bool))
    sentences = ["one two", "and", "six ten"]
    assert rate_drift(frames, sentences, [0.0, 2.0, 4.0]) == 0
    assert rate_drift(frames, sentences, [0.0, 2.0, 5.0]) == pytest.approx(1.0)
    assert math.isnan(rate_drift(frames, sentences, [0.0, 2.0]))
    assert math.isnan(rate_drift(frames, ["...", *sentences[1:]], [0.0, 2.0, 4.0]))
