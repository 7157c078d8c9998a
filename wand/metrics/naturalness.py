"""Predicted naturalness: DNSMOS, a network that predicts how listeners rate a sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from wand.files.audio import resample

RATE = 16_000
# `speechmos` does not say what it imports.
PACKAGES = ("speechmos", "librosa", "onnxruntime", "requests")


class Dnsmos(NamedTuple):
    """Predicted ratings of a sound, from 1 to 5; NaN for an empty sound.

    Args:
        overall: Overall quality (ITU-T P.835).
        signal: Quality of the speech itself (P.835).
        background: Quality of the background: 5 is no noise (P.835).
        general: Quality as asked for in ITU-T P.808.
    """

    overall: float
    signal: float
    background: float
    general: float


def check_installed() -> None:
    """Check that the packages are there.

    Raises:
        ValueError: If one is missing.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ValueError(f'DNSMOS needs {", ".join(missing)}: pip install "wand-tts[naturalness]"')


def dnsmos(sound: Tensor, sample_rate: int) -> Dnsmos:
    """Ratings that DNSMOS (Reddy et al. 2021, 2022) predicts. Its models come with the package `speechmos`.

    The models rate 9 seconds at once. A shorter sound is repeated; a longer one gets the mean over pieces.

    Args:
        sound: Audio ``[N]``. Samples outside -1 ... 1 are clipped.
        sample_rate: Its sample rate, in Hz.

    Raises:
        ValueError: If a package is missing.
    """
    check_installed()
    from speechmos import dnsmos as model

    audio = resample(sound.float().cpu(), sample_rate, RATE).clamp(-1, 1)
    if not len(audio):
        return Dnsmos(*[math.nan] * len(Dnsmos._fields))
    found = model.run(audio.numpy(), RATE)
    return Dnsmos(*(float(found[name]) for name in ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")))


class Naturalness(Metric):
    """DNSMOS: means over all sounds. Empty sounds count for nothing.

    Raises:
        ValueError: If a package is missing.
    """

    is_differentiable = False
    full_state_update = False
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        check_installed()
        for name in ("count", *Dnsmos._fields):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sounds: Sequence[Tensor], sample_rate: int) -> None:
        """Add audio ``[N]``."""
        for sound in sounds:
            if len(sound):
                for name, value in dnsmos(sound, sample_rate)._asdict().items():
                    setattr(self, name, getattr(self, name) + value)
                self.count = self.count + 1

    def compute(self) -> dict[str, Tensor]:
        """Means of ``overall``, ``signal``, ``background`` and ``general`` (see `Dnsmos`)."""
        return {name: getattr(self, name) / self.count for name in Dnsmos._fields}
