"""The figures of all finished runs, and what is measured of each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.ablations.plan import BASELINE, Row, Run
from benchmarks.ablations.results import Coverage, Heard, RunFigures, SystemFigures
from benchmarks.ablations.statistics import Difference, paired


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of the tables.

    Args:
        key: ``cer``, ``wer``, ``kl`` or ``agreement``.
        title: Its title.
        value: Gives its value from the figures of a system.
        unit: Unit of differences.
        digits: Digits after the point.
        less_is_better: Whether a lower value is better.
        recogniser: Name of the recogniser; empty for what nobody hears.
    """

    key: str
    title: str
    value: Callable[[SystemFigures], float]
    unit: str
    digits: int
    less_is_better: bool = True
    recogniser: str = ""

    def show(self, value: float, signed: bool = False) -> str:
        """A value as text."""
        return f"{value:{'+' if signed else ''}.{self.digits}f}"


def measures(recognisers: Sequence[str], with_words: bool) -> list[Measure]:
    """CER and WER as each recogniser hears them, KL, and agreement.

    Args:
        recognisers: Names of the recognisers.
        with_words: Whether there is a WER.
    """

    def rate(name: str, kind: str) -> Callable[[SystemFigures], float]:
        return lambda figures: 100 * float(getattr(figures.heard[name], kind))

    found = []
    for name in recognisers:
        for key in ("cer", "wer") if with_words else ("cer",):
            found.append(Measure(key, f"{key.upper()} %, {name}", rate(name, key), "points", 2, recogniser=name))
    found.append(Measure("kl", "KL", lambda figures: figures.kl, "nats", 4))
    found.append(Measure("agreement", "agree %", lambda figures: 100 * figures.agreement, "points", 2, False))
    return found


@dataclass(frozen=True)
class Line:
    """A line of the tables: a row, or weights that need no training.

    Args:
        title: The line in words.
        by_seed: The figures by seed. Without training, all seeds have the same.
        trained: Whether the line was trained.
    """

    title: str
    by_seed: Mapping[int, SystemFigures]
    trained: bool = True

    def values(self, measure: Measure) -> dict[int, float]:
        """A measure by seed."""
        return {seed: measure.value(figures) for seed, figures in self.by_seed.items()}

    def mean(self, measure: Measure) -> float:
        """The mean of a measure over the seeds."""
        return statistics.fmean(self.values(measure).values())

    def against(self, other: Line, measure: Measure) -> Difference:
        """This line minus another, paired by seed."""
        return paired(self.values(measure), other.values(measure))


@dataclass
class Results:
    """All that was measured.

    Args:
        lines: The trained rows, by name.
        untrained: The weights without training under the windows of rows, by the row's name.
        teacher: The teacher; None if it was not heard.
        recorded: What the recognisers heard of the recordings; None if they were not heard.
        coverage: The attention that windows cover; None if it was not measured.
        about: The figures of every run.
    """

    lines: dict[str, Line] = field(default_factory=dict)
    untrained: dict[str, Line] = field(default_factory=dict)
    teacher: Line | None = None
    recorded: Mapping[str, Heard] | None = None
    coverage: Coverage | None = None
    about: list[RunFigures] = field(default_factory=list)

    @property
    def baseline(self) -> Line:
        """The row that all are compared with."""
        return self.lines[BASELINE.name]

    @property
    def recognisers(self) -> list[str]:
        """Names of the recognisers."""
        return [*self.about[0].recognisers.values()]

    @property
    def measures(self) -> list[Measure]:
        """The columns of the tables."""
        names = self.recognisers
        heard = next(iter(self.baseline.by_seed.values())).heard
        return measures(names, with_words=all(heard[name].wer is not None for name in names))


def collect(found: Mapping[Run, RunFigures]) -> Results | None:
    """The figures of finished runs by line; None before a run of the baseline is finished.

    Args:
        found: The figures of every finished run.
    """
    rows: dict[Row, dict[int, SystemFigures]] = {}
    results = Results(about=[*found.values()])
    for run, figures in found.items():
        rows.setdefault(run.row, {})[run.seed] = figures.systems["student"]
    if BASELINE not in rows:
        return None
    seeds = rows[BASELINE]
    for run, figures in found.items():
        if "untrained" in run.systems:
            title = "no training" if run.row is BASELINE else f"no training, {run.row.title}"
            same = dict.fromkeys(seeds, figures.systems["untrained"])
            results.untrained[run.row.name] = Line(title, same, trained=False)
        if run.row is BASELINE and run.first:
            same = dict.fromkeys(seeds, figures.systems["teacher"])
            results.teacher = Line("teacher, full attention", same, trained=False)
            results.recorded, results.coverage = figures.recorded, figures.coverage
    for row, own in rows.items():  # what cannot be compared yet is left out
        common = {seed: figures for seed, figures in own.items() if seed in seeds}
        if common:
            results.lines[row.name] = Line(row.title, common)
    results.untrained = {name: line for name, line in results.untrained.items() if name in results.lines}
    return results
