"""Mel cepstra: the spectral envelope of each frame as a few numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from wand.files.audio import resample
from wand.recognition.activity import FRAMES, frame_count

RATE = 16_000
HOP = RATE // FRAMES
WIDTH, FFT = 400, 1024
BANDS, ORDER = 80, 24
# Bands that are quieter than the loudest one of the sound by more than this count as equally quiet, in dB.
RANGE = 60.0
# Turns a distance of cepstra into dB: 10 * sqrt(2) / ln(10).
DECIBELS = 10 * math.sqrt(2) / math.log(10)


def mel_cepstra(sound: Tensor, sample_rate: int) -> Tensor:
    """Cepstra c1 ... c24 of each frame of 10 ms. Time and memory are linear.

    They are the cosine series of the log amplitudes L of 80 mel bands from 0 to 8 kHz (HTK's scale, windows of 25 ms):
    ``L[k] = c0 / 2 + c1 * cos(pi * (k + 0.5) / 80) + c2 * cos(2 * pi * (k + 0.5) / 80) + ...``. c0, the level, is left
    out.

    Args:
        sound: Audio ``[N]``. Samples that are not finite count as zero.
        sample_rate: Its sample rate, in Hz.

    Returns:
        Cepstra, float64 ``[F, 24]`` on the CPU. The frames are those of `wand.recognition.activity.levels`.
    """
    count = frame_count(len(sound), sample_rate)
    if not count:
        return torch.zeros(0, ORDER, dtype=torch.float64)
    audio = resample(sound.float().cpu().nan_to_num(0.0, 0.0, 0.0), sample_rate, RATE)
    # Frame i is centred on its middle.
    audio = functional.pad(audio, ((WIDTH - HOP) // 2, WIDTH + HOP))
    frames = audio.unfold(0, WIDTH, HOP)[:count] * torch.hann_window(WIDTH)
    filters = mel_filter_bank(FFT // 2 + 1, BANDS, 0.0, RATE / 2, RATE, norm=None, mel_scale="htk")
    power = torch.fft.rfft(frames, n=FFT).abs().square().double() @ torch.from_numpy(filters).double()
    floor = (power.max() * 10 ** (-RANGE / 10)).clamp(min=1e-12)
    amplitudes = power.clamp(min=floor).log() / 2
    places = math.pi * (torch.arange(BANDS, dtype=torch.float64) + 0.5) / BANDS
    cosines = (torch.arange(1, ORDER + 1)[:, None] * places).cos()
    return amplitudes @ cosines.T * (2 / BANDS)


def distortions(first: Tensor, second: Tensor) -> Tensor:
    """Mel-cepstral distortion of every pair of frames: ``10 * sqrt(2) / ln(10) * |c - c'|``, in dB.

    With all cepstra it would be the root mean square difference of both log mel spectra, apart from their levels.

    Args:
        first: Cepstra ``[N, 24]``.
        second: Cepstra ``[M, 24]``.

    Returns:
        Distortions ``[N, M]``.
    """
    # Without matrix products, so that equal frames have a distance of exactly 0.
    return DECIBELS * torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
