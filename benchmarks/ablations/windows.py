"""The curve over windows: attention that they cover, the weights without training, and the trained students."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.ablations.figures import Results
from benchmarks.ablations.results import Coverage, Heard
from wand.console.tables import markdown
from wand.metrics.intervals import resampled_sums, upper_bound

# A window is enough if the CER of its trained student is less than this above the teacher's, in points.
MARGIN = 2.0


def upper_difference(own: Sequence[Heard], other: Heard) -> float:
    """The upper 95 % bound of a difference of CER, in points. The sentences of both are resampled together.

    Args:
        own: What was heard of several trainings.
        other: What was heard of another system that spoke the same sentences.
    """
    assert all(len(heard.letters) == len(other.letters) for heard in own), "all speak the same sentences"
    counts = [_counts(heard) for heard in own]
    sums = resampled_sums(torch.cat([torch.stack(counts).sum(0), _counts(other)], dim=1))
    return upper_bound(100 * (sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]))


def _counts(heard: Heard) -> Tensor:
    """Wrong letters and letters of each sentence, ``[N, 2]``."""
    return torch.tensor([heard.wrong_letters, heard.letters], dtype=torch.float64).T


def windows_section(results: Results) -> str:
    """The table and what follows from it."""
    if results.teacher is None:
        return "The teacher was not heard."
    teacher = next(iter(results.teacher.by_seed.values()))
    coverage = results.coverage
    sizes = {name: next(iter(line.by_seed.values())).window for name, line in results.untrained.items()}
    bounds: dict[str, dict[str, float]] = {name: {} for name in results.recognisers}
    for ear, own in bounds.items():
        for name in sizes:
            students = [figures.heard[ear] for figures in results.lines[name].by_seed.values()]
            own[name] = upper_difference(students, teacher.heard[ear])
    titles, lines = ["W", "cache, MiB", "attention covered %"], []
    for measure in results.measures:
        if measure.key in ("cer", "kl"):
            titles += [f"{measure.title}: untrained", "trained"]
        if measure.key == "cer":
            titles.append("at most above the teacher")
    for name in sorted(sizes, key=lambda name: (_bytes(results, name), name)):
        size = sizes[name]
        covered = None if coverage is None or not isinstance(size, int) else dict(coverage.covered).get(size)
        shown = " ".join(map(str, size)) if isinstance(size, list) else str(size)
        cells = [shown, f"{_bytes(results, name) / 2**20:.2f}", "-" if covered is None else f"{100 * covered:.1f}"]
        for measure in results.measures:
            if measure.key in ("cer", "kl"):
                cells += [measure.show(line.mean(measure)) for line in (results.untrained[name], results.lines[name])]
            if measure.key == "cer":
                cells.append(measure.show(bounds[measure.recogniser][name], True))
        lines.append(cells)
    note = (
        "At most above the teacher: upper 95 % bound of the student's CER minus the teacher's, in points. The "
        "sentences are resampled, each with the takes of all seeds."
    )
    single = {name: size for name, size in sizes.items() if isinstance(size, int)}
    said = [_enough(ear, {size: own[name] for name, size in single.items()}, coverage) for ear, own in bounds.items()]
    return "\n\n".join([markdown(titles, lines), note, " ".join(said)])


def _bytes(results: Results, name: str) -> int:
    """Bytes of the cache under the window of a row."""
    return next(iter(results.untrained[name].by_seed.values())).kv_bytes


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
