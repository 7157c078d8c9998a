"""Sounds whose pitch, level and pauses are known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RATE = 16_000


def voice(frequencies: Tensor, sample_rate: int = RATE, noise: float = 0.0) -> Tensor:
    """A sound ``[N]`` with a rich spectrum: 12 harmonics, the second the strongest, whose frequencies are given."""
    phase = (2 * math.pi * frequencies.double() / sample_rate).cumsum(0)
    strengths = torch.tensor([0.4, 1.0, *(1 / k for k in range(3, 13))])
    harmonics = torch.stack([strengths[k - 1] * (k * phase + k * k).sin() for k in range(1, 13)])
    harmonics[torch.arange(1, 13)[:, None] * frequencies > 0.45 * sample_rate] = 0
    random = torch.randn(len(frequencies), generator=torch.Generator().manual_seed(0))
    return (0.1 * harmonics.sum(0)).float() + noise * random


def constant(hertz: float, seconds: float, sample_rate: int = RATE) -> Tensor:
    """A `voice` with one pitch."""
    return voice(torch.full((round(seconds * sample_rate),), hertz), sample_rate)


def silence(seconds: float, sample_rate: int = RATE) -> Tensor:
    return torch.zeros(round(seconds * sample_rate))
