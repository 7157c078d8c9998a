"""The pitch tracker against sounds whose pitch is known, and against Praat."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.metrics.sounds import RATE, constant, silence, voice
from wand.demo.corpus import VOICES
from wand.metrics.pitch import median_pitch, pitch_track, semitones
from wand.recognition.activity import FRAMES, levels
from wand.text.espeak import SAMPLE_RATE, synthesize


def distance(track: Tensor, truth: Tensor) -> Tensor:
    """Semitones between both in the frames with voice."""
    voiced = ~track.isnan() & ~truth.isnan()
    return (12 * (track / truth).log2()).abs()[voiced]


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_a_glide_is_followed_at_every_sample_rate(rate: int, noise: float) -> None:
    """Four seconds from 80 to 320 Hz: two octaves, so that no octave is right everywhere."""
    truth = 80 * 2 ** (2 * torch.arange(4 * rate) / (4 * rate))
    track = pitch_track(voice(truth, rate, noise), rate)
    middles = ((torch.arange(400) + 0.5) * rate / FRAMES).long()
    off = distance(track, truth[middles])
    assert len(track) == 400
    assert len(off) >= 380
    assert float(off.median()) < 0.05
    assert float((off > 1).float().mean()) < 0.01


@pytest.mark.parametrize("hertz", [65.0, 110.0, 233.0, 450.0])
def test_pulses_have_the_pitch_of_their_period(hertz: float) -> None:
    """Pulses: all harmonics below half the sample rate, equally strong and in phase."""
    phase = 2 * math.pi * hertz * torch.arange(RATE).double() / RATE
    pulses = torch.stack([(k * phase).cos() for k in range(1, int(0.45 * RATE / hertz))]).mean(0)
    assert abs(semitones(hertz, median_pitch(pitch_track(pulses, RATE)))) < 0.05


def test_a_missing_fundamental_is_heard() -> None:
    phase = 2 * math.pi * 120 * torch.arange(RATE) / RATE
    sound = sum((k * phase).sin() for k in range(3, 9))
    assert isinstance(sound, Tensor)
    assert median_pitch(pitch_track(sound, RATE)) == pytest.approx(120, rel=2e-3)


def test_frames_have_a_voice_where_there_is_one() -> None:
    noise = 0.05 * torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    sound = torch.cat([constant(150, 1), silence(1), noise, constant(200, 1)])
    voiced = ~pitch_track(sound, RATE).isnan()
    assert voiced[3:97].all()
    assert voiced[303:397].all()
    assert not voiced[103:197].any()
    assert voiced[203:297].float().mean() < 0.1


def test_the_blocks_of_the_path_are_not_heard() -> None:
    """25 s: the path is found in blocks of 10 s."""
    track = pitch_track(constant(140, 25), RATE)
    assert len(track) == 2500
    assert float((track[5:-5] / 140 - 1).abs().max()) < 2e-3


@pytest.mark.parametrize("samples", [0, 1, 161, 16_001])
def test_nothing_is_found_in_nothing(samples: int) -> None:
    for sound in (torch.zeros(samples), torch.full((samples,), math.nan), torch.full((samples,), math.inf)):
        track = pitch_track(sound, RATE)
        assert len(track) == len(levels(sound, RATE)) == math.ceil(samples / 160)
        assert track.isnan().all()
    assert math.isnan(median_pitch(torch.zeros(0)))
    assert math.isnan(semitones(math.nan, 100))


def test_damaged_samples_cost_only_their_frames() -> None:
    sound = constant(140, 2)
    sound[RATE] = math.nan
    track = pitch_track(sound, RATE)
    assert float((track[5:-5] / 140 - 1).abs().median()) < 2e-3


def test_intervals_are_semitones() -> None:
    assert semitones(100, 200) == 12
    assert semitones(440, 440 * 2 ** (-3 / 12)) == pytest.approx(-3)


@pytest.mark.integration
def test_speech_has_the_pitch_that_praat_finds() -> None:
    parselmouth = pytest.importorskip("parselmouth", reason="praat-parselmouth is not installed")
    ours, others = [], []
    for speaker in VOICES:
        sound = synthesize("Where did you put the yellow umbrella that I bought for my sister?", speaker)
        ours.append(pitch_track(sound, SAMPLE_RATE))
        praat = parselmouth.Sound(sound.double().numpy(), SAMPLE_RATE)
        found = praat.to_pitch_ac(time_step=1 / FRAMES, pitch_floor=60, pitch_ceiling=500)
        others.append(torch.tensor([found.get_value_at_time((i + 0.5) / FRAMES) for i in range(len(ours[-1]))]))
    track, truth = torch.cat(ours), torch.cat(others)
    off = distance(track, truth)
    assert float(off.median()) < 0.02
    assert float((off > 6).float().mean()) < 0.01  # octave errors
    assert float((track.isnan() == truth.isnan()).float().mean()) > 0.93
