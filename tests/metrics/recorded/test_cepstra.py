"""Cepstra against their definition in plain loops, against sounds with a known envelope, and against librosa."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.metrics.sounds import RATE, constant
from wand.metrics.recorded.cepstra import BANDS, FFT, HOP, ORDER, RANGE, WIDTH, distortions, mel_cepstra


def mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


EDGES = [700 * (10 ** (i * mel(RATE / 2) / (BANDS + 1) / 2595) - 1) for i in range(BANDS + 2)]


def band_powers(frame: np.ndarray) -> np.ndarray:
    taper = [0.5 - 0.5 * math.cos(2 * math.pi * n / WIDTH) for n in range(WIDTH)]
    power = np.abs(np.fft.rfft(frame * taper, FFT)) ** 2
    bands = np.zeros(BANDS)
    for k in range(BANDS):
        low, middle, high = EDGES[k : k + 3]
        for i, own in enumerate(power):
            hertz = i * RATE / FFT
            bands[k] += own * max(0.0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
    return bands


def by_loop(sound: torch.Tensor) -> np.ndarray:
    padded = np.pad(sound.double().numpy(), ((WIDTH - HOP) // 2, WIDTH))
    bands = np.stack([band_powers(padded[first : first + WIDTH]) for first in range(0, len(sound), HOP)])
    logs = np.log(np.maximum(bands, bands.max() * 10 ** (-RANGE / 10))) / 2
    cosines = [[math.cos(math.pi * m * (k + 0.5) / BANDS) for k in range(BANDS)] for m in range(1, ORDER + 1)]
    return 2 / BANDS * logs @ np.array(cosines).T


def test_cepstra_follow_their_definition():
    sound = constant(140, 0.05) + 0.01 * torch.randn(800, generator=torch.Generator().manual_seed(0))
    found = mel_cepstra(sound, RATE)
    assert found.shape == (5, ORDER)
    assert np.allclose(found.numpy(), by_loop(sound), atol=1e-3)


@pytest.mark.parametrize(("order", "size"), [(1, 0.4), (3, -0.3)])
def test_a_known_change_of_the_envelope_is_found_in_its_cepstrum(order, size):
    noise = torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    hertz = torch.fft.rfftfreq(len(noise), 1 / RATE)
    place = 2595 * (1 + hertz / 700).log10() / mel(RATE / 2)
    changed = torch.fft.irfft(torch.fft.rfft(noise) * (size * (math.pi * order * place).cos()).exp())
    before, after = (mel_cepstra(sound, RATE)[2:-2] for sound in (noise, changed))
    expected = torch.zeros(ORDER, dtype=torch.float64)
    expected[order - 1] = size
    assert (after - before).mean(0).tolist() == pytest.approx(expected.tolist(), abs=0.02)
    # dB are 20 * log10 of an amplitude, and the root mean square of a cosine is 1 / sqrt(2).
    wanted = 20 / math.log(10) * abs(size) / math.sqrt(2)
    assert float(distortions(before, after).diagonal().mean()) == pytest.approx(wanted, rel=0.05)


def test_level_and_sample_rate_change_little():
    sound = constant(140, 0.5)
    wanted = mel_cepstra(sound, RATE)
    assert torch.allclose(mel_cepstra(0.1 * sound, RATE), wanted, atol=1e-4)
    fine = mel_cepstra(constant(140, 0.5, 24_000), 24_000)
    assert fine.shape == wanted.shape
    assert float(distortions(fine, wanted).diagonal()[5:-5].mean()) < 2


def test_sounds_without_contents_have_cepstra():
    assert mel_cepstra(torch.zeros(0), RATE).shape == (0, ORDER)
    assert float(mel_cepstra(torch.zeros(RATE), RATE).abs().max()) < 1e-9


@pytest.mark.integration
def test_librosa_finds_the_same_cepstra():
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    sound = constant(140, 0.5) + 0.01 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    padded = np.pad(sound.numpy(), ((FFT - HOP) // 2, FFT))
    power = librosa.feature.melspectrogram(
        y=padded, sr=RATE, n_fft=FFT, win_length=WIDTH, hop_length=HOP, center=False, n_mels=BANDS, htk=True, norm=None
    )[:, :50]
    logs = np.log(np.maximum(power, power.max() * 10 ** (-RANGE / 10))) / 2
    wanted = librosa.feature.mfcc(S=logs, n_mfcc=ORDER + 1, norm=None)[1:].T / BANDS
    assert np.allclose(mel_cepstra(sound, RATE).numpy(), wanted, atol=2e-3)
