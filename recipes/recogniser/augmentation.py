"""Augmentation of speech: on the samples of a sound, and on the log mel spectra of a batch.

Speech must stay intelligible, because the recogniser must not learn to guess: noise stays below the speech, and what is
masked in time is shorter than a phone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn import functional

from wand.recognition.network import SAMPLE_RATE


@dataclass(frozen=True)
class Augmentation:
    """Ranges and shares of the augmentation.

    Args:
        speeds: Factors of speed and pitch together.
        tempos: Factors of the speed alone.
        formants: Factors of the frequencies of the spectrum's envelope.
        warped: Share of batches rows with another tempo and other formants.
        equalised: Share of sounds with a random frequency response.
        tilt: Largest slope of the response, in dB per octave.
        bumps: Largest deviation of the response from the slope, in dB.
        band_limited: Share of the equalised sounds with a narrower band.
        reverberant: Share of sounds in a room.
        decay: Reverberation times, in seconds.
        noisy: Share of sounds with noise.
        noise_db: Levels of noise below the speech.
        babbling: Share of sounds with other speech behind them.
        babble_db: Levels of this speech below the speech.
        clipped: Share of sounds whose peaks are cut off.
        gains: Exponents of ten of the loudness.
        bands: Largest width of each of two masks in frequency, in mel bands.
        gap: Largest width of a mask in time, in frames of 10 ms. There is one mask per second.
    """

    speeds: tuple[float, float] = (0.85, 1.2)
    tempos: tuple[float, float] = (0.85, 1.15)
    formants: tuple[float, float] = (0.92, 1.08)
    warped: float = 0.5
    equalised: float = 0.5
    tilt: float = 4.0
    bumps: float = 6.0
    band_limited: float = 0.3
    reverberant: float = 0.25
    decay: tuple[float, float] = (0.1, 0.5)
    noisy: float = 0.6
    noise_db: tuple[float, float] = (5.0, 45.0)
    babbling: float = 0.15
    babble_db: tuple[float, float] = (8.0, 25.0)
    clipped: float = 0.1
    gains: tuple[float, float] = (-0.8, 0.3)
    bands: int = 10
    gap: int = 5


def augmented(sounds: Sequence[Tensor], rng: random.Random, kind: Augmentation) -> list[Tensor]:
    """The sounds ``[N]`` of a batch with another speed, a room, noise, other speech of the batch, and loudness."""
    sounds = [faster(sound, rng.uniform(*kind.speeds)) for sound in sounds]
    changed = []
    for i, sound in enumerate(sounds):
        sound = filtered(sound, rng, kind)
        if rng.random() < kind.noisy:
            sound = sound + below(coloured_noise(len(sound), rng), sound, rng.uniform(*kind.noise_db))
        if rng.random() < kind.babbling and len(sounds) > 1:
            others = rng.sample([j for j in range(len(sounds)) if j != i], min(rng.randint(1, 3), len(sounds) - 1))
            babble = torch.stack([sounds[j].repeat(-(-len(sound) // len(sounds[j])))[: len(sound)] for j in others])
            sound = sound + below(babble.sum(0), sound, rng.uniform(*kind.babble_db))
        if rng.random() < kind.clipped:
            peak = float(sound.abs().max()) * rng.uniform(0.2, 0.8)
            sound = sound.clamp(-peak, peak)
        changed.append(sound * 10 ** rng.uniform(*kind.gains))
    return changed


def faster(sound: Tensor, speed: float) -> Tensor:
    """The sound at another speed and pitch: ``[N / speed]``."""
    changed = soxr.resample(sound.numpy(), SAMPLE_RATE * speed, SAMPLE_RATE, quality="LQ")
    return torch.from_numpy(np.ascontiguousarray(changed))


def below(noise: Tensor, sound: Tensor, decibels: float) -> Tensor:
    """The noise with a power that lies some decibels below the power of the sound."""
    return noise * (sound.std() / noise.std().clamp(min=1e-9) * 10 ** (-decibels / 20))


def coloured_noise(length: int, rng: random.Random) -> Tensor:
    """Noise ``[N]`` from white to brown: its power falls by 0 to 6 dB per octave."""
    white = torch.randn(length, generator=_generator(rng))
    slope = rng.choice((0.0, rng.uniform(0, 1)))
    if slope == 0:
        return white
    size = _fast(length)
    spectrum = torch.fft.rfft(white, size)
    return torch.fft.irfft(spectrum * torch.arange(1, len(spectrum) + 1).pow(-slope), size)[:length]


def filtered(sound: Tensor, rng: random.Random, kind: Augmentation) -> Tensor:
    """The sound in a room and through a frequency response; both are one multiplication of spectra."""
    room, equalised = rng.random() < kind.reverberant, rng.random() < kind.equalised
    if not (room or equalised):
        return sound
    impulse = room_impulse(rng, kind) if room else torch.ones(1)
    size = _fast(len(sound) + len(impulse))
    spectrum = torch.fft.rfft(sound, size)
    if room:
        spectrum = spectrum * torch.fft.rfft(impulse, size)
    if equalised:
        spectrum = spectrum * response(len(spectrum), rng, kind)
    return torch.fft.irfft(spectrum, size)[: len(sound)]


def room_impulse(rng: random.Random, kind: Augmentation) -> Tensor:
    """The impulse response of a room: the direct sound, then noise that falls by 60 dB in the reverberation time."""
    decay = rng.uniform(*kind.decay)
    length = int(decay * SAMPLE_RATE)
    tail = torch.randn(length, generator=_generator(rng)) * 10 ** (-3 * torch.arange(length) / length)
    tail[: int(rng.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0  # before the first reflection
    # The tail has a power of 3 to 15 dB below the direct sound.
    tail *= 10 ** (-rng.uniform(3, 15) / 20) / tail.norm().clamp(min=1e-9)
    tail[0] = 1
    return tail


def response(bins: int, rng: random.Random, kind: Augmentation) -> Tensor:
    """A random frequency response ``[bins]`` from 0 to 8 kHz: a slope, bumps, and limits of the band."""
    octaves = np.log2(np.maximum(np.linspace(0, SAMPLE_RATE / 2, bins), 30) / 1000)
    knots = np.linspace(octaves[0], octaves[-1], 9)
    decibels = rng.uniform(-kind.tilt, kind.tilt) * octaves
    decibels += np.interp(octaves, knots, [rng.uniform(-kind.bumps, kind.bumps) for _ in knots])
    if rng.random() < kind.band_limited:
        low, high = np.log2(rng.uniform(50, 300) / 1000), np.log2(rng.uniform(3300, 7500) / 1000)
        decibels -= 24 * np.maximum(low - octaves, 0) + 90 * np.maximum(octaves - high, 0)
    return torch.from_numpy(10 ** (decibels / 20)).float()


def warped(spectra: Tensor, frames: Tensor, rng: random.Random, kind: Augmentation) -> tuple[Tensor, Tensor]:
    """Spectra ``[B, T, M]`` of another tempo and with other formants, and their numbers of frames ``[B]``.

    Half of the rows stay as they are.
    """
    rows, total, mels = spectra.shape
    changed = [rng.random() < kind.warped for _ in range(rows)]
    tempos = torch.tensor([rng.uniform(*kind.tempos) if change else 1.0 for change in changed])
    formants = torch.tensor([rng.uniform(*kind.formants) if change else 1.0 for change in changed])
    frames = (frames / tempos).round().long().clamp(min=1)
    times = torch.arange(int(frames.max())) * tempos[:, None]
    places = (torch.arange(mels) / formants[:, None]).clamp(max=mels - 1)
    shape = (rows, times.shape[1], mels)
    grid = [places[:, None] * 2 / (mels - 1) - 1, times[:, :, None] * 2 / max(1, total - 1) - 1]
    grid_of = torch.stack([axis.expand(shape) for axis in grid], dim=-1)
    moved = functional.grid_sample(spectra[:, None], grid_of, align_corners=True)[:, 0]
    real = torch.arange(shape[1]) < frames[:, None]
    return moved * real[..., None], frames


def masked(spectra: Tensor, frames: Tensor, rng: random.Random, kind: Augmentation) -> Tensor:
    """Spectra ``[B, T, M]`` without some bands and without some short times (SpecAugment, Park et al., 2019)."""
    spectra = spectra.clone()
    for row, length in enumerate(frames.tolist()):
        for _ in range(2):
            width = rng.randint(0, kind.bands)
            first = rng.randrange(spectra.shape[2] - width + 1)
            spectra[row, :, first : first + width] = 0
        for _ in range(length // 100):
            begin = rng.randrange(length)
            spectra[row, begin : begin + rng.randint(0, kind.gap)] = 0
    return spectra


def _generator(rng: random.Random) -> torch.Generator:
    return torch.Generator().manual_seed(rng.randrange(2**31))


def _fast(length: int) -> int:
    """A length at which a Fourier transform is fast."""
    return -(-length // 2048) * 2048
