"""Sound that is no speech is refused, with its reason; poor recordings of speech are not."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wand.demo.corpus import VOICES
from wand.files.audio import read_audio, read_header, read_reference, read_speech
from wand.files.sound import Unusable, speech_span
from wand.text.espeak import SAMPLE_RATE, synthesize

RNG = np.random.default_rng(0)
SPEECH = synthesize("so they went home in the rain.", VOICES[0]).numpy()


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def at_peak(decibels: float) -> np.ndarray:
    return SPEECH / np.abs(SPEECH).max() * 10 ** (decibels / 20)


def both(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=1)


with_nan = SPEECH.copy()
with_nan[100] = np.nan
with_huge = SPEECH.copy()
with_huge[100] = 1e30
click = np.zeros(SAMPLE_RATE)
click[8000] = 0.5

NO_SPEECH = {
    "zeros": (np.zeros(SAMPLE_RATE), "PCM_16", "silent"),
    "noise of the last bit": (RNG.integers(-1, 2, SAMPLE_RATE) / 32768, "PCM_16", "silent"),
    "noise of the last of eight bits": (RNG.integers(-1, 2, SAMPLE_RATE) / 128, "PCM_U8", "silent"),
    "a constant": (np.full(SAMPLE_RATE, 0.4), "PCM_16", "silent"),
    "a constant and noise": (0.4 + RNG.integers(-2, 3, SAMPLE_RATE) / 32768, "PCM_16", "silent"),
    "one click": (click, "PCM_16", "silent"),
    "opposite phase": (both(SPEECH, -SPEECH), "FLOAT", "opposite phase"),
    "opposite phase, one quieter": (both(SPEECH, -0.9 * SPEECH), "FLOAT", "opposite phase"),
    "opposite phase and offsets": (both(SPEECH + 0.2, 0.3 - SPEECH), "FLOAT", "opposite phase"),
    "the range of int16": (SPEECH * 32767, "FLOAT", "out of scale"),
    "one huge sample": (with_huge, "DOUBLE", "out of scale"),
    "one sample that is no number": (with_nan, "FLOAT", "not finite"),
    "an infinite sample": (np.where(np.arange(len(SPEECH)) == 9, np.inf, SPEECH), "FLOAT", "not finite"),
    "clipped": (np.clip(at_peak(30), -1, 1), "PCM_16", "clipped"),
    "clipped and made quieter": (0.3 * np.clip(at_peak(30), -1, 1), "FLOAT", "clipped"),
}


@pytest.mark.parametrize("name", NO_SPEECH)
def test_sound_that_is_no_speech_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    samples, subtype, why = NO_SPEECH[name]
    path = write(tmp_path / "a.wav", samples, subtype=subtype)
    with pytest.raises(Unusable) as caught:
        read_speech(path, SAMPLE_RATE)
    assert caught.value.why == why
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="the voice to clone"):
        read_reference(path, SAMPLE_RATE)


POOR = {
    "quiet": (at_peak(-45), SAMPLE_RATE, "PCM_16"),
    "8 kHz": (SPEECH[::2], 8_000, "PCM_16"),
    "8 bit": (SPEECH, SAMPLE_RATE, "PCM_U8"),
    "mu-law": (SPEECH[::2], 8_000, "ULAW"),
    "an offset": (at_peak(-30) + 0.3, SAMPLE_RATE, "PCM_16"),
    "noise": (at_peak(-20) + RNG.normal(0, 0.03, len(SPEECH)), SAMPLE_RATE, "PCM_16"),
    "clipped by 6 dB": (np.clip(at_peak(6), -1, 1), SAMPLE_RATE, "PCM_16"),
    "above full scale": (at_peak(9), SAMPLE_RATE, "FLOAT"),
    "one channel of two": (both(SPEECH, 0 * SPEECH), SAMPLE_RATE, "PCM_16"),
    "channels without relation": (both(SPEECH, RNG.normal(0, 0.1, len(SPEECH))), SAMPLE_RATE, "PCM_16"),
    "one channel of 64": (np.stack([SPEECH] + [0 * SPEECH] * 63, axis=1), SAMPLE_RATE, "PCM_16"),
    "a pure tone": (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.05), SAMPLE_RATE, "PCM_16"),
    "one short word": (synthesize("yes.", VOICES[3]).numpy(), SAMPLE_RATE, "PCM_16"),
    "a second of silence before": (np.concatenate([np.zeros(SAMPLE_RATE), SPEECH]), SAMPLE_RATE, "PCM_16"),
}


@pytest.mark.parametrize("name", POOR)
def test_poor_recordings_of_speech_are_used(tmp_path: Path, name: str) -> None:
    samples, rate, subtype = POOR[name]
    path = write(tmp_path / "a.wav", samples, rate, subtype)
    truth, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(read_speech(path, rate).numpy(), truth.mean(axis=1))


def with_claim(path: Path, size: int) -> Path:
    """A WAV file whose header claims that many bytes of sound."""
    content = bytearray(write(path, SPEECH).read_bytes())
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 2 * len(SPEECH), 2 * len(SPEECH) + 100])
def test_a_length_that_was_not_known_or_is_off_by_little_is_accepted(tmp_path: Path, size: int) -> None:
    assert len(read_speech(with_claim(tmp_path / "a.wav", size), SAMPLE_RATE)) == len(SPEECH)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    for name, keep in (("a.wav", 0.5), ("a.aiff", 0.8), ("a.mp3", 0.5)):
        path = tmp_path / name
        soundfile.write(path, SPEECH, SAMPLE_RATE)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        with pytest.raises(Unusable, match=r"was cut off: its header claims \d") as caught:
            read_speech(path, SAMPLE_RATE)
        assert caught.value.why == "cut off"


def test_a_header_that_claims_hours_is_refused_before_the_samples_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, SPEECH, SAMPLE_RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = struct.pack(">I", 10 * 3600 * SAMPLE_RATE)  # the number of samples in STREAMINFO
    path.write_bytes(content)
    assert read_header(path).seconds == 36_000
    with pytest.raises(Unusable, match="lasts 36000 s by its header"):
        read_audio(path, SAMPLE_RATE)


@pytest.mark.parametrize("rate", [1, 1000, 10**6])
def test_a_sample_rate_that_is_none_of_sound_is_refused(tmp_path: Path, rate: int) -> None:
    with pytest.raises(Unusable, match=f"has a sample rate of {rate} Hz"):
        read_audio(write(tmp_path / "a.wav", SPEECH, rate), SAMPLE_RATE)


@pytest.mark.parametrize("level", [0.0, 1 / 32768, 0.003])
@pytest.mark.parametrize("gain", [1.0, 0.05])
def test_the_span_is_the_speech(level: float, gain: float) -> None:
    before, after = SAMPLE_RATE, SAMPLE_RATE // 2
    sound = np.concatenate([np.zeros(before), gain * SPEECH, np.zeros(after)])
    noisy = sound + level * gain * RNG.normal(size=len(sound))
    tensor = read_tensor(noisy)
    begin, end = speech_span(tensor, SAMPLE_RATE)
    margin = round(0.1 * SAMPLE_RATE)
    assert before - margin <= begin <= before + margin
    assert len(sound) - after - margin <= end <= len(sound) - after + margin


def read_tensor(samples: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(samples.astype(np.float32))


def test_speech_without_silence_around_it_is_its_own_span() -> None:
    for samples in (SPEECH, 0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.05), RNG.normal(0, 0.1, SAMPLE_RATE), SPEECH[:200]):
        assert speech_span(read_tensor(samples), SAMPLE_RATE) == (0, len(samples))


def test_a_click_before_the_speech_is_no_speech() -> None:
    sound = np.concatenate([np.zeros(SAMPLE_RATE), SPEECH])
    sound[4000:4020] = 0.8
    assert speech_span(read_tensor(sound), SAMPLE_RATE)[0] > 0.9 * SAMPLE_RATE
