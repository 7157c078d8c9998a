"""Sound files as users have them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wand.files.audio import check_duration, read_audio, read_reference, write_audio

RATE = 16_000


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * math.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.fixture
def save(tmp_path: Path):
    def write(samples: np.ndarray, rate: int = RATE, name: str = "voice.wav") -> Path:
        soundfile.write(tmp_path / name, samples, rate, subtype="FLOAT")
        return tmp_path / name

    return write


def test_mono_at_the_right_rate_is_read_as_it_is(save):
    samples = tone(0.6, RATE)
    audio = read_audio(save(samples), RATE)
    assert audio.dtype == torch.float32
    assert torch.equal(audio, torch.from_numpy(samples))


def test_sound_that_lasts_too_long_is_refused(save):
    file = save(tone(1.0, 8_000), 8_000)
    check_duration(file, 1.0)
    with pytest.raises(ValueError, match=r"lasts more than 0\.999 s, the most that is taken: cut it"):
        check_duration(file, 0.999)


def test_channels_are_averaged(save):
    left, right = tone(0.6, RATE), tone(0.6, RATE, 100.0)
    audio = read_audio(save(np.stack([left, right], axis=1)), RATE)
    torch.testing.assert_close(audio, torch.from_numpy((left + right) / 2))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(save, rate):
    audio = read_audio(save(tone(1.0, rate), rate), RATE)
    assert abs(len(audio) - RATE) <= 2
    inner = slice(2000, 14_000)
    torch.testing.assert_close(audio[inner], torch.from_numpy(tone(1.0, RATE))[inner], atol=0.01, rtol=0)


def test_written_sound_comes_back(tmp_path):
    audio = torch.from_numpy(tone(0.2, RATE))
    write_audio(tmp_path / "new" / "folder" / "a.wav", audio, RATE)
    torch.testing.assert_close(read_audio(tmp_path / "new" / "folder" / "a.wav", RATE), audio, atol=1e-4, rtol=0)


def test_loud_sound_is_clipped_not_wrapped(tmp_path):
    write_audio(tmp_path / "a.wav", torch.tensor([3.0, -3.0, 0.0]), RATE)
    torch.testing.assert_close(read_audio(tmp_path / "a.wav", RATE), torch.tensor([1.0, -1.0, 0.0]), atol=1e-3, rtol=0)


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(ValueError, match=f"no sound file at {path}"):
            read_audio(path, RATE)


@pytest.mark.parametrize("name", ["notes.txt", "voice.wav", "voice.raw"])
def test_what_is_not_sound_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("these are notes, not sound\n")
    with pytest.raises(ValueError, match="is not a sound file"):
        read_audio(path, RATE)


def test_an_empty_recording_is_refused(save):
    with pytest.raises(ValueError, match="is empty"):
        read_reference(save(np.zeros(0, dtype=np.float32)), RATE)


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_is_refused(save, level):
    with pytest.raises(ValueError, match="is silent"):
        read_reference(save(np.full(RATE, level, dtype=np.float32)), RATE)


@pytest.mark.parametrize(("seconds", "rate"), [(0.3, RATE), (0.3, 8_000), (1 / 48_000, 48_000)])
def test_a_short_recording_is_refused(save, seconds, rate):
    with pytest.raises(ValueError, match=r"lasts 0\.\d0 s"):
        read_reference(save(tone(seconds, rate) + 0.1, rate), RATE)


def test_a_recording_that_is_long_enough_is_a_reference(save):
    path = save(tone(0.6, 8_000), 8_000)
    assert torch.equal(read_reference(path, RATE), read_audio(path, RATE))


def test_samples_that_are_no_numbers_are_refused(save):
    samples = tone(0.6, RATE)
    samples[100] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        read_reference(save(samples), RATE)
