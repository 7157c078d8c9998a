"""Where a sound has speech: levels of short frames, and pauses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Frames for each second of sound. Frame i lasts from i / FRAMES to (i + 1) / FRAMES seconds.
FRAMES = 100
# Level of digital silence, in dB of full scale.
SILENCE = -120.0
# Frames below this level are no speech, whatever else the sound has.
FLOOR = -60.0
# Frames that are this much quieter than the loud ones are no speech, in dB.
DEPTH = 35.0
# Share of the frames that are quieter than the loud ones.
LOUD = 0.95
# Shorter gaps between speech belong to it, in seconds: they are closures of consonants.
BRIDGE = 0.2


class Runs(NamedTuple):
    """Stretches of equal values.

    Args:
        values: Value of each of R stretches, bool ``[R]``.
        starts: First place of each, ``[R]``.
        lengths: Number of places of each, ``[R]``.
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor


def frame_count(samples: int, sample_rate: int) -> int:
    """Number of frames of a sound with a number of samples. The last frame may be shorter."""
    return -(-samples * FRAMES // sample_rate)


def levels(sound: Tensor, sample_rate: int) -> Tensor:
    """Level of each frame: the mean square in dB of full scale, at least `SILENCE`. Time and memory are linear.

    Args:
        sound: Audio ``[N]``. Samples that are not finite count as zero.
        sample_rate: Its sample rate, in Hz.

    Returns:
        Levels, float32 ``[F]`` on the CPU, with F = `frame_count`.
    """
    found = [torch.zeros(0)]
    for minute in sound.split(60 * sample_rate):
        squares = minute.float().cpu().nan_to_num(0.0, 0.0, 0.0).square()
        edges = torch.arange(frame_count(len(squares), sample_rate) + 1) * sample_rate // FRAMES
        sizes = edges.clamp(max=len(squares)).diff()
        if len(sizes):
            found.append(torch.segment_reduce(squares, "mean", lengths=sizes))
    return (10 * torch.cat(found).log10()).clamp(min=SILENCE)


def speech_frames(levels: Tensor) -> Tensor:
    """Which frames have speech, by their level: at least `FLOOR`, and at most `DEPTH` below the loud frames.

    Args:
        levels: Levels of all frames of a sound, ``[F]``.

    Returns:
        A mask, bool ``[F]``.
    """
    audible = levels[levels > FLOOR]
    if not len(audible):
        return torch.zeros(len(levels), dtype=torch.bool)
    loud = audible.kthvalue(1 + int(LOUD * (len(audible) - 1))).values
    return levels > (loud - DEPTH).clamp(min=FLOOR)


def active_frames(levels: Tensor) -> Tensor:
    """As `speech_frames`, with gaps shorter than `BRIDGE` seconds between speech: active speech without pauses."""
    speech = speech_frames(levels)
    found = runs(speech)
    inner = torch.ones_like(found.values)
    inner[:1] = inner[-1:] = False
    bridged = ~found.values & inner & (found.lengths < BRIDGE * FRAMES)
    return (found.values | bridged).repeat_interleave(found.lengths)


def runs(mask: Tensor) -> Runs:
    """The stretches of equal values in a mask ``[F]``."""
    values, lengths = torch.unique_consecutive(mask, return_counts=True)
    return Runs(values, lengths.cumsum(0) - lengths, lengths)
