"""Pitch, level and active speech of the parts of a long sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from wand.metrics.pitch import median_pitch, pitch_track, semitones
from wand.recognition.activity import FRAMES, active_frames, levels


@dataclass(frozen=True, slots=True, eq=False)
class Prosody:
    """What is measured in every frame of 10 ms.

    Args:
        pitch: Fundamental frequency in Hz; NaN in frames without voice or active speech, ``[F]``.
        level: Level in dB of full scale, ``[F]``.
        active: Whether the frame is active speech, bool ``[F]``.
    """

    pitch: Tensor
    level: Tensor
    active: Tensor

    @property
    def seconds(self) -> float:
        """Duration of the sound, rounded up to whole frames."""
        return len(self.level) / FRAMES


@dataclass(frozen=True, slots=True, eq=False)
class PartProsody:
    """Figures of P parts of a sound. Where there is nothing to measure, they are NaN.

    Args:
        pitch: Median pitch in Hz, ``[P]``.
        level: Level of active speech in dB of full scale, ``[P]``.
        active: Seconds of active speech, ``[P]``; never NaN.
    """

    pitch: Tensor
    level: Tensor
    active: Tensor

    @property
    def pitch_drift(self) -> float:
        """Pitch of the last part above that of the first, in semitones."""
        return semitones(float(self.pitch[0]), float(self.pitch[-1]))

    @property
    def level_drift(self) -> float:
        """Level of the last part above that of the first, in dB."""
        return float(self.level[-1] - self.level[0])

    def rates(self, counts: Sequence[int]) -> Tensor:
        """Speaking rates ``[P]``: letters, words or other counts of the parts, per second of active speech."""
        rates = torch.tensor(counts, dtype=torch.float32) / self.active
        return rates.masked_fill(self.active == 0, math.nan)


def prosody(sound: Tensor, sample_rate: int) -> Prosody:
    """Measure every frame of a sound. Time and memory are linear.

    Args:
        sound: Audio ``[N]``. Samples that are not finite count as zero.
        sample_rate: Its sample rate, in Hz.
    """
    level = levels(sound, sample_rate)
    active = active_frames(level)
    # A frame of pitch reaches into its neighbours: next to speech, silence would have its pitch.
    return Prosody(pitch_track(sound, sample_rate).masked_fill(~active, math.nan), level, active)


def by_part(measured: Prosody, edges: Sequence[float]) -> PartProsody:
    """The figures of consecutive parts.

    Args:
        measured: All frames of the sound.
        edges: Where each of P parts begins, and where the last one ends, in seconds: P + 1 times.
    """
    parts = [slice(round(first * FRAMES), round(last * FRAMES)) for first, last in pairwise(edges)]
    active = [measured.active[part] for part in parts]
    return PartProsody(
        pitch=torch.tensor([median_pitch(measured.pitch[part]) for part in parts]),
        level=torch.tensor([mean_level(measured.level[part][own]) for part, own in zip(parts, active, strict=True)]),
        active=torch.tensor([int(own.sum()) / FRAMES for own in active]),
    )


def rate_drift(measured: Prosody, parts: Sequence[str], begins: Sequence[float]) -> float:
    """By which share the last third of the sentences or words is spoken faster than the first.

    Args:
        measured: All frames of the sound.
        parts: All sentences or words of the text.
        begins: When they begin, in seconds; only those that were reached.

    Returns:
        The share; NaN if some were not reached, or there are fewer than three, or the first third has no letters.
    """
    third = len(parts) // 3
    if not third or len(begins) < len(parts):
        return math.nan
    edges = [begins[0], begins[third], begins[-third], measured.seconds]
    counts = [sum(map(letters, own)) for own in (parts[:third], parts[third:-third], parts[-third:])]
    first, _, last = by_part(measured, edges).rates(counts).tolist()
    return last / first - 1 if first else math.nan


def letters(text: str) -> int:
    """Number of letters and digits."""
    return sum(letter.isalnum() for letter in text)


def mean_level(level: Tensor) -> float:
    """Level of the mean power of frames ``[F]``, in dB; NaN without frames."""
    return float(10 * (10 ** (level.double() / 10)).mean().log10())


def thirds(seconds: float) -> list[float]:
    """The edges of the thirds of a sound, for `by_part`."""
    return [seconds * i / 3 for i in range(4)]


def slices(seconds: float, step: float = 10.0) -> list[float]:
    """The edges of parts of `step` seconds, for `by_part`. A rest of less than half a step joins the last part."""
    count = max(1, math.floor(seconds / step + 0.5))
    return [*(i * step for i in range(count)), seconds]
