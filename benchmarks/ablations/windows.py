"""The curve over windows: attention that they cover, the weights without training, and the trained students."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablations.figures import Results
from benchmarks.ablations.hearing import TAKES
from benchmarks.ablations.plan import BASELINE, Run
from wand.console.tables import markdown
from wand.evaluation.quality import Take, counts
from wand.metrics.intervals import resampled_sums, upper_bound

COVERAGE = Path("analysis") / "coverage.json"
# A window is enough if the CER of its trained student is less than this above the teacher's, in points.
MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What ``wand analyze`` has found.

    Args:
        covered: The share of attention that a window covers, by W.
        recommended: The W that it recommends; None if it recommends none.
    """

    covered: Mapping[int, float]
    recommended: int | None


def read_coverage(runs: Iterable[Path]) -> Coverage | None:
    """The coverage from the first of these runs that has ``analysis/coverage.json``; None if none has."""
    for file in (run / COVERAGE for run in runs):
        if file.is_file():
            content: dict[str, Any] = json.loads(file.read_text())
            covered = {int(line["window"]): float(line["covered"]) for line in content["windows"]}
            return Coverage(covered, content["recommended_window"])
    return None


def read_takes(runs: Iterable[Path], system: str, recogniser: str) -> list[Take]:
    """The takes of a system in several runs, as a recogniser heard them."""
    takes = []
    for run in runs:
        for text in (run / TAKES).read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if (line.pop("system"), line.pop("recogniser")) == (system, recogniser):
                takes.append(Take(**line))
    return takes


def upper_difference(own: list[Take], other: list[Take]) -> float:
    """The upper 95 % bound of a difference of CER, in points. The sentences of both are resampled together."""
    sums = resampled_sums(torch.cat([counts(own)[:, :2], counts(other)[:, :2]], dim=1))
    return upper_bound(100 * (sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]))


def windows_section(results: Results, folders: Mapping[Run, Path]) -> str:
    """The table and what follows from it.

    Args:
        results: The figures.
        folders: The folder of every finished run.
    """
    if results.teacher is None:
        return "The teacher was not heard."
    coverage = read_coverage(folders.values())
    sizes = {name: next(iter(line.by_seed.values()))["window"] for name, line in results.untrained.items()}
    chosen = sorted((size, name) for name, size in sizes.items() if isinstance(size, int))
    teacher = [folder for run, folder in folders.items() if "teacher" in run.systems]
    bounds: dict[str, dict[int, float]] = {name: {} for name in results.recognisers}
    for ear, own in bounds.items():
        heard = read_takes(teacher, "teacher", ear)
        for size, name in chosen:
            runs = [folder for run, folder in folders.items() if run.row.name == name]
            own[size] = upper_difference(read_takes(runs, "student", ear), heard)
    titles, lines = ["W", "attention covered %"], []
    for measure in results.measures:
        if measure.key in ("cer", "kl"):
            titles += [f"{measure.title}: untrained", "trained"]
        if measure.key == "cer":
            titles.append("at most above the teacher")
    for size, name in chosen:
        covered = None if coverage is None else coverage.covered.get(size)
        cells = [str(size), "-" if covered is None else f"{100 * covered:.1f}"]
        for measure in results.measures:
            if measure.key in ("cer", "kl"):
                cells += [measure.show(line.mean(measure)) for line in (results.untrained[name], results.lines[name])]
            if measure.key == "cer":
                cells.append(measure.show(bounds[measure.recogniser][size], True))
        lines.append(cells)
    note = (
        "At most above the teacher: upper 95 % bound of the student's CER minus the teacher's, in points. The "
        "sentences are resampled, each with the takes of all seeds."
    )
    said = [_enough(ear, own, coverage) for ear, own in bounds.items()]
    if coverage is None:
        run = next(folder for run, folder in folders.items() if run.row is BASELINE)
        said.append(f"The covered attention was not measured: `wand analyze --ckpt_path {run}` measures it.")
    return "\n\n".join([markdown(titles, lines), note, " ".join(said)])


def _enough(ear: str, bounds: Mapping[int, float], coverage: Coverage | None) -> str:
    """The smallest window that is enough, and whether coverage has told it."""
    enough = min((size for size, bound in bounds.items() if bound < MARGIN), default=None)
    if enough is None:
        return f"Heard by {ear}, no trained student is, by this bound, less than {MARGIN:g} points above the teacher."
    said = (
        f"Heard by {ear}, {enough} is the smallest W whose trained student is, by this bound, less than "
        f"{MARGIN:g} points above the teacher."
    )
    if coverage is None:
        return said
    if coverage.recommended is None:
        return f"{said} `wand analyze` recommends no W."
    near = abs(math.log2(coverage.recommended / enough)) <= 1
    return (
        f"{said} `wand analyze` recommends {coverage.recommended}, which is "
        f"{'within' if near else 'further away than'} one power of two."
    )
