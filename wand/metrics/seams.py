"""Seams: what changes where one sentence ends and the next begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wand.metrics.pitch import median_pitch, semitones
from wand.metrics.prosody import Prosody, mean_level
from wand.recognition.activity import FRAMES, runs, speech_frames

# The pause of a seam may lie this far from the time that was given for it, in seconds.
TOLERANCE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Seams:
    """Figures of S seams.

    Args:
        pitch: Size of the step in median pitch, in semitones, ``[S]``; NaN if a side has no voice.
        level: Size of the step in the level of active speech, in dB, ``[S]``; NaN if a side has no speech.
        pause: Length of the pause, in seconds, ``[S]``; 0 if there is none.
    """

    pitch: Tensor
    level: Tensor
    pause: Tensor


def seams(measured: Prosody, times: Sequence[float], context: float = math.inf) -> Seams:
    """Compare both sides of each seam.

    Args:
        measured: All frames of the sound, from `wand.metrics.prosody.prosody`.
        times: Times of the seams in seconds, in order.
        context: Seconds of voice (for the level: of active speech) next to the seam that are compared; by default the
            whole sentences.
    """
    places = [min(round(time * FRAMES), len(measured.level)) for time in times]
    edges = [0, *places, len(measured.level)]
    frames = int(context * FRAMES) if math.isfinite(context) else len(measured.level)
    pitch, level = [], []
    for first, place, last in zip(edges, edges[1:], edges[2:], strict=False):
        voiced = [side[~side.isnan()] for side in (measured.pitch[first:place], measured.pitch[place:last])]
        active = [measured.level[side][measured.active[side]] for side in (slice(first, place), slice(place, last))]
        pitch.append(abs(semitones(median_pitch(_end(voiced[0], frames)), median_pitch(voiced[1][:frames]))))
        level.append(abs(mean_level(_end(active[0], frames)) - mean_level(active[1][:frames])))
    return Seams(torch.tensor(pitch), torch.tensor(level), _pauses(measured.level, places))


def _end(values: Tensor, count: int) -> Tensor:
    return values[max(0, len(values) - count) :]


def _pauses(level: Tensor, places: Sequence[int]) -> Tensor:
    """Seconds of the longest stretch without speech that touches the surroundings of each place."""
    found = runs(speech_frames(level))
    ends, reach = found.starts + found.lengths, round(TOLERANCE * FRAMES)
    silent = [~found.values & (found.starts < place + reach) & (ends > place - reach) for place in places]
    return torch.tensor([int((found.lengths * own).max()) / FRAMES if own.any() else 0.0 for own in silent])
