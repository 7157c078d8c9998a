"""Distances of sounds whose pitch, voice and pauses are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.metrics.sounds import RATE, constant, silence, voice
from wand.metrics import RecordingDistances
from wand.metrics.recorded import Distances, distances
from wand.metrics.recorded.distances import silence_share
from wand.recognition.activity import active_frames, levels


def noise(seconds: float, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


def glide(low: float, high: float, seconds: float) -> Tensor:
    return voice(torch.linspace(low, high, round(seconds * RATE)))


SPEECH = torch.cat([silence(0.2), glide(120, 180, 0.5), noise(0.2), glide(160, 110, 0.4), silence(0.3)])
OTHER = torch.cat([glide(130, 170, 0.7), silence(0.3), noise(0.1), glide(150, 120, 0.3)])


def test_a_sound_has_no_distance_from_itself():
    found = distances(SPEECH, SPEECH, RATE)
    assert found.distortion == found.squares == found.unlike == 0
    assert found.voiced > 50
    assert found.mcd == found.f0 == found.voicing == 0


@settings(max_examples=5)
@given(st.floats(90, 400), st.floats(90, 400), st.floats(0.1, 0.3), st.floats(0.1, 0.3))
def test_both_directions_are_the_same(low, high, first, second):
    one, other = torch.cat([glide(low, high, first), noise(0.2)]), glide(high, low, second)
    there, back = distances(one, other, RATE), distances(other, one, RATE)
    assert there.mcd == pytest.approx(back.mcd)
    assert (there.pairs, there.voiced, there.unlike) == (back.pairs, back.voiced, back.unlike)
    assert there.squares == pytest.approx(back.squares)


@pytest.mark.parametrize("interval", [1, -3, 7])
def test_the_error_of_pitch_is_the_interval(interval):
    found = distances(constant(150 * 2 ** (interval / 12), 0.6), constant(150, 0.6), RATE)
    assert found.f0 == pytest.approx(abs(interval), abs=0.05)
    assert found.voicing < 0.1


def test_the_error_of_voicing_is_the_share_of_frames():
    wanted = torch.cat([constant(150, 1.0), noise(0.6), constant(150, 0.4)])
    # The last part is whispered.
    found = distances(torch.cat([constant(150, 1.0), noise(1.0)]), wanted, RATE)
    assert found.voicing == pytest.approx(0.4 / 2.0, abs=0.03)
    assert found.f0 < 0.1


def test_silence_around_speech_does_not_count():
    found = distances(torch.cat([silence(0.5), OTHER, silence(1)]), SPEECH, RATE)
    wanted = distances(OTHER, SPEECH, RATE)
    assert found.pairs == pytest.approx(wanted.pairs, abs=2)
    assert found.mcd == pytest.approx(wanted.mcd, rel=0.02)


def test_time_is_warped():
    slow, fast = glide(120, 180, 1.2), glide(120, 180, 0.6)
    found = distances(slow, fast, RATE)
    assert found.pairs == pytest.approx(120, abs=6)
    assert found.f0 < 0.7
    assert found.mcd < distances(slow, noise(0.6), RATE).mcd / 3


def test_other_contents_are_farther_than_small_changes():
    near, far = (distances(SPEECH + size * noise(1.6, seed=1), SPEECH, RATE) for size in (1e-3, 1e-1))
    assert 0 < near.mcd < distances(OTHER, SPEECH, RATE).mcd < far.mcd


@pytest.mark.parametrize("empty", [torch.zeros(0), silence(0.5)])
def test_without_speech_there_is_no_distance(empty):
    for found in (distances(empty, SPEECH, RATE), distances(SPEECH, empty, RATE)):
        assert found == Distances()
        assert math.isnan(found.mcd)
        assert math.isnan(found.f0)
        assert math.isnan(found.voicing)


def test_silence_is_a_share():
    sound = torch.cat([silence(0.25), constant(150, 0.5), silence(0.3), constant(150, 0.45), silence(0.5)])
    assert silence_share(active_frames(levels(sound, RATE))) == pytest.approx(1.05 / 2.0, abs=0.02)


PAIRS = [(SPEECH, OTHER), (OTHER, SPEECH), (constant(150, 0.3), constant(170, 0.4)), (silence(0.2), SPEECH)]


def test_figures_are_over_all_frames_and_two_processes_are_one():
    ranks = RecordingDistances(), RecordingDistances()
    for i, (sound, recorded) in enumerate(PAIRS):
        ranks[i % 2].update([sound], [recorded], RATE)
    ranks[0].merge_state(ranks[1])
    found = {name: float(value) for name, value in ranks[0].compute().items()}
    each = [distances(sound, recorded, RATE) for sound, recorded in PAIRS]
    pairs = sum(one.pairs for one in each)
    assert found["mcd"] == pytest.approx(sum(one.pairs * one.mcd for one in each if one.pairs) / pairs)
    squares = sum(one.voiced * one.f0**2 for one in each if one.voiced)
    assert found["f0"] == pytest.approx(math.sqrt(squares / sum(one.voiced for one in each)))
    assert found["voicing"] == pytest.approx(sum(one.unlike for one in each) / pairs)
    samples, wanted = (sum(len(pair[i]) for pair in PAIRS) for i in (0, 1))
    assert found["duration"] == pytest.approx(samples / wanted)
    shares = [(len(pair[0]), silence_share(active_frames(levels(pair[0], RATE)))) for pair in PAIRS]
    assert found["silence"] == pytest.approx(sum(n * share for n, share in shares) / samples)
