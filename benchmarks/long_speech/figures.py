"""The figures of a length: every figure of both systems and their difference, with intervals.

Voices and seeds are drawn with replacement. Both systems are drawn together, so their differences are paired.
Shapes: V voices, S seeds, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.long_speech.record import PASSAGE, SPLITTING, SYSTEMS, Facts
from wand.decoding.stopping import StopReason
from wand.metrics.edits import edits, parts_by_time
from wand.metrics.intervals import interval, resampled_medians, resampled_sums, upper_bound
from wand.metrics.prosody import letters

DIFFERENCE, RATIO = "passage - splitting", "passage / splitting"
# The speeches of each system, ``[V][S]``.
Grid = dict[str, list[list[Facts]]]
MEDIANS = ("seam_pitch", "seam_level", "seam_pause", "sentence_pitch", "pitch_drift", "level_drift", "rate_drift")
# Figures of the sound whose ratio between the systems is a figure, too.
COMPARED = ("seam_pitch", "seam_level", "seam_pause", "sentence_pitch", "duration", "letters_per_second")
# A speech that ended for one of these reasons has reached the end of its text.
ENDS = {StopReason.STOP_TOKEN, StopReason.TEXT_END}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure.

    Args:
        value: Its value.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        upper: The bound below which it lies with 95 % confidence.
    """

    value: float
    low: float
    high: float
    upper: float

    @classmethod
    def of(cls, value: Tensor, samples: Tensor) -> Estimate:
        """From the value and its resamples ``[R]``."""
        return cls(float(value), *interval(samples), upper_bound(samples))


Figures = dict[str, dict[str, Estimate]]


# -- errors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What an ear has heard of a speech.

    Args:
        thirds: Wrong letters and letters of each third of the text.
        slices: Wrong letters and letters of every ten seconds. A sentence belongs to those in which it begins, one that
            was not reached to those of the end.
        missing: The sentences of which less than half was heard.
        skip: Letters of the longest stretch of text that was not heard, and the stretch.
        insertion: Letters of the longest stretch of speech that is not in the text, and the stretch.
    """

    thirds: list[tuple[int, int]]
    slices: list[tuple[int, int]]
    missing: list[str]
    skip: tuple[int, str]
    insertion: tuple[int, str]


def mistakes(facts: Facts, heard: str, language: str) -> Mistakes:
    """Align what was heard of a speech with its text."""
    found = edits(heard, facts.sentences, language)
    late = [facts.sound["seconds"]] * (len(facts.sentences) - len(facts.sound["begins"]))
    slices = parts_by_time(facts.sentences, [*facts.sound["begins"], *late])
    skip, insertion = found.longest_skip(), found.longest_insertion()
    return Mistakes(
        found.by_third(),
        edits(heard, slices, language).by_part(),
        [facts.sentences[i] for i in found.missing()],
        (skip.symbols, skip.text),
        (insertion.symbols, insertion.text),
    )


def error_figures(heard: dict[str, list[list[Mistakes]]]) -> Figures:
    """Error rates by system, and their differences.

    Args:
        heard: The mistakes in the speeches of each system, ``[V][S]``.
    """
    own = [_table(heard[system], lambda one: list(zip(*one.thirds, strict=True))) for system in SYSTEMS]
    counts = torch.cat(own, -1)
    values, samples = _rates(counts.sum((0, 1))), _rates(resampled_sums(counts))
    return {name: {key: Estimate.of(values[name][key], own[key]) for key in own} for name, own in samples.items()}


def _rates(sums: Tensor) -> dict[str, dict[str, Tensor]]:
    """Rates of sums ``[..., 12]``: wrong letters of the thirds and letters of the thirds, of each system."""
    found = {}
    for system, own in zip(SYSTEMS, sums.unflatten(-1, (2, 2, 3)).unbind(-3), strict=True):
        wrong, letters = own.unbind(-2)
        first, middle, last = (wrong / letters).unbind(-1)
        total = wrong.sum(-1) / letters.sum(-1)
        found[system] = {"cer": total, "first": first, "middle": middle, "last": last, "growth": last - first}
    found[DIFFERENCE] = {name: value - found[SPLITTING][name] for name, value in found[PASSAGE].items()}
    return found


# -- sound -------------------------------------------------------------------------------------------------------


def sound_figures(spoken: Grid, joint: Sequence[float]) -> Figures:
    """Steadiness, duration and rate by system, and their ratios.

    Args:
        spoken: The speeches.
        joint: Length of the joint recording of the text of each voice, in seconds, ``[V]``.
    """
    recorded = torch.tensor(joint, dtype=torch.float64)[:, None, None].expand(-1, len(spoken[PASSAGE][0]), 1)
    found = {system: _sound_figures(grid, recorded) for system, grid in spoken.items()}
    both = [(name, found[PASSAGE][name], found[SPLITTING][name]) for name in COMPARED]
    found[RATIO] = {name: (own[0] / other[0], own[1] / other[1]) for name, own, other in both}
    return {name: {key: Estimate.of(*pair) for key, pair in own.items()} for name, own in found.items()}


def _sound_figures(grid: list[list[Facts]], recorded: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """The figures of one system, each with its resamples. `recorded`: ``[V, S, 1]``."""
    found = {name: _median(_sound(grid, name)) for name in MEDIANS}
    found["pitch_drift_size"] = _median(_sound(grid, "pitch_drift").abs())
    spoken = _table(
        grid, lambda facts: (facts.sound["seconds"], facts.sound["active"], sum(map(letters, facts.sentences)))
    )
    counts = torch.cat([spoken, recorded], -1)
    values, samples = _ratios(counts.sum((0, 1))), _ratios(resampled_sums(counts))
    return found | {name: (values[name], samples[name]) for name in values}


def _sound(grid: list[list[Facts]], name: str) -> Tensor:
    return _table(grid, lambda facts: facts.sound[name])


def _ratios(sums: Tensor) -> dict[str, Tensor]:
    seconds, active, letters, recorded = sums.unbind(-1)
    return {"duration": seconds / recorded, "letters_per_second": letters / active}


def computing(grid: list[list[Facts]]) -> tuple[float, float]:
    """CPU seconds per second of speech, and the share of them that exchanges text windows."""
    speeches = [facts for own in grid for facts in own]
    total = sum(facts.computing for facts in speeches)
    return total / sum(facts.sound["seconds"] for facts in speeches), sum(facts.moving for facts in speeches) / total


def reached_end(facts: Facts) -> bool:
    """Whether a speech has reached the end of its text."""
    return all(reason in ENDS for reason in facts.reasons)


def _median(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.flatten().nanmedian(), resampled_medians(values)


def _table(grid: list[list[Any]], values: Callable[[Any], Any]) -> Tensor:
    """Values of every speech, float64 ``[V, S, M]``. Missing ones are NaN."""
    rows = [[torch.tensor(values(one), dtype=torch.float64).reshape(-1) for one in own] for own in grid]
    longest = max(len(row) for own in rows for row in own)
    padded = [[torch.nn.functional.pad(row, (0, longest - len(row)), value=torch.nan) for row in own] for own in rows]
    return torch.stack([torch.stack(own) for own in padded])
