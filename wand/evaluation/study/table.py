"""The figures of a study: of every system, their differences from the teacher, and the shares that are won back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from wand.evaluation.quality import length_buckets
from wand.evaluation.study.description import Description
from wand.evaluation.study.rows import StudyRow
from wand.evaluation.study.systems import STUDENT, TEACHER, UNTRAINED
from wand.evaluation.systems import RECORDED
from wand.metrics.edits import edits
from wand.metrics.paired import Figure, compare, resampled_rates

ALL, UNSEEN = "all", "unseen voices"
THIRDS = ("first", "middle", "last")


@dataclass(frozen=True, slots=True)
class FigureColumn:
    """A column of the table: a rate, which is the sum of counts over the sum of other counts.

    Args:
        name: Its key in JSON: ``cer:EAR``, ``wer:EAR``, ``cer_first:EAR`` and so on, or the name of a metric.
        title: Its title.
        legend: Its meaning in words.
        digits: Decimal places.
        percent: Whether the figures are shares, which tables show in percent.
    """

    name: str
    title: str
    legend: str
    digits: int
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """A line of the table: one system, the difference of two (first minus second), or a share won back of three.

    Args:
        title: What it is.
        systems: The systems: one, two, or teacher, untrained window and student.
        figures: Its figure in each column, by the column's name; None if it is undefined.
    """

    title: str
    systems: tuple[str, ...]
    figures: dict[str, Figure | None]


@dataclass(frozen=True, slots=True)
class Part:
    """The figures of some sentences.

    Args:
        name: ``all`` (of trained voices, if there are any), a range of lengths, or ``unseen voices``.
        sentences: Number of sentences.
        lines: Its lines.
    """

    name: str
    sentences: int
    lines: list[Comparison]


@dataclass(frozen=True, slots=True)
class StudyTable:
    """All figures of a study.

    Args:
        columns: The columns.
        parts: All sentences, then each range of lengths that has any, then the voices that were not trained on.
    """

    columns: list[FigureColumn]
    parts: list[Part]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; None for what is not finite."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


Count = Callable[[StudyRow], tuple[float, float] | None]
"""Numerator and denominator of a rate in one row; None if it is undefined."""


def make_table(rows: Sequence[StudyRow], study: Description) -> StudyTable:
    """The table of a study. All takes of a sentence are resampled together, for all systems.

    Differences and shares are paired: a sentence and seed counts if all systems of a line have a value for it. A
    recording, which has one take, stands beside every seed.

    Args:
        rows: All rows.
        study: The description of the study.
    """
    counts = columns_of(rows, study)
    names = [system.name for system in study.systems]
    ids = sorted({row.id for row in rows})
    seen = {row.id for row in rows if row.speaker not in study.unseen}
    counted = _count(rows, ids, study, [*counts.values()])
    lengths = {row.id: row.recorded_seconds for row in rows}
    chosen = {ALL: [name in seen for name in ids]}
    for title, low, high in length_buckets():
        chosen[title] = [name in seen and low <= (lengths[name] or -1) < high for name in ids]
    chosen[UNSEEN] = [name not in seen for name in ids]
    return StudyTable(
        columns=[*counts],
        parts=[
            Part(title, sum(mask), _lines(counted[torch.tensor(mask)], [*counts], names, comparisons(study)))
            for title, mask in chosen.items()
            if any(mask)
        ],
    )


def columns_of(rows: Sequence[StudyRow], study: Description) -> dict[FigureColumn, Count]:
    """The columns, and what each counts."""
    made: dict[FigureColumn, Count] = {}
    several = len(study.recognisers) > 1
    for ear in study.recognisers:
        heard = f", {ear}" if several else ""
        legend = f"wrong letters in what {ear} hears, as a share of those in the text"
        made[FigureColumn(letters_of(ear), f"CER %{heard}", legend, 1, percent=True)] = _letters(ear)
        if any(row.errors[ear].words for row in rows):
            legend = f"wrong words in what {ear} hears, as a share of those in the text"
            made[FigureColumn(f"wer:{ear}", f"WER %{heard}", legend, 1, percent=True)] = _words(ear)
        for third, (name, key) in enumerate(thirds_of(ear).items()):
            legend = f"wrong letters in what {ear} hears of the {name} third of the words of each text"
            made[FigureColumn(key, f"{name} third", legend, 1, percent=True)] = _third(ear, third, study.language)
    for metric in study.metrics:
        made[FigureColumn(metric.name, metric.title, metric.legend, metric.digits)] = _value(metric.name)
    return made


def letters_of(ear: str) -> str:
    """Name of the column with the letter error rate of a recogniser."""
    return f"cer:{ear}"


def thirds_of(ear: str) -> dict[str, str]:
    """Names of the columns with the letter error rates of a recogniser in the thirds of the texts, by third."""
    return {third: f"cer_{third}:{ear}" for third in THIRDS}


def comparisons(study: Description) -> list[tuple[str, tuple[str, ...]]]:
    """Title and systems of every line."""
    kinds = {system.name: system.kind for system in study.systems}
    lines: list[tuple[str, tuple[str, ...]]] = [(name, (name,)) for name in kinds]
    if TEACHER not in kinds:
        return lines
    lines += [(f"{name} - {TEACHER}", (name, TEACHER)) for name in kinds if name != TEACHER]
    for student in (name for name, kind in kinds.items() if kind == STUDENT):
        for window in (name for name, kind in kinds.items() if kind == UNTRAINED):
            lines.append((f"{student}: % of {window} won back", (TEACHER, window, student)))
    return lines


def _letters(ear: str) -> Count:
    return lambda row: (row.errors[ear].wrong_letters, row.errors[ear].letters)


def _words(ear: str) -> Count:
    return lambda row: (row.errors[ear].wrong_words, row.errors[ear].words)


def _third(ear: str, third: int, language: str) -> Count:
    return lambda row: _thirds(row.heard[ear], row.text, language)[third]


@lru_cache(maxsize=1)  # the columns of the thirds are counted one after the other
def _thirds(heard: str, text: str, language: str) -> list[tuple[int, int]]:
    return edits(heard, [text], language).by_third()


def _value(name: str) -> Count:
    def count(row: StudyRow) -> tuple[float, float] | None:
        value = row.metrics[name]
        return None if value is None else (value, 1)

    return count


def _count(rows: Sequence[StudyRow], ids: Sequence[str], study: Description, counts: Sequence[Count]) -> Tensor:
    """Numerators and denominators of every take: float64 ``[sentences, seeds, systems, columns, 2]``."""
    place = {name: i for i, name in enumerate(ids)}
    of = {system.name: i for i, system in enumerate(study.systems)}
    counted = torch.zeros(len(ids), len(study.seeds), len(of), len(counts), 2, dtype=torch.float64)
    for row in rows:
        own = [count(row) or (0.0, 0.0) for count in counts]
        seeds = slice(None) if row.system == RECORDED else study.seeds.index(row.seed)
        counted[place[row.id], seeds, of[row.system]] = torch.tensor(own, dtype=torch.float64)
    return counted


def _lines(
    counted: Tensor, columns: Sequence[FigureColumn], names: Sequence[str], lines: Sequence[tuple[str, tuple[str, ...]]]
) -> list[Comparison]:
    """The lines of some sentences, from counts ``[N, seeds, systems, columns, 2]``."""
    made = [Comparison(title, systems, {column.name: None for column in columns}) for title, systems in lines]
    places = [[names.index(name) for name in systems] for _, systems in lines]
    # Figures of the same sentences share their draws.
    shared: dict[tuple[bool, ...], list[tuple[int, int, Tensor]]] = {}
    for i, own in enumerate(places):
        for j in range(len(columns)):
            takes = counted[:, :, own, j]
            paired = (takes[..., 1] > 0).all(2)
            if (known := paired.any(1)).any():
                sums = (takes * paired[..., None, None]).sum(1)[known]
                shared.setdefault(tuple(known.tolist()), []).append((i, j, sums))
    for figures in shared.values():
        rates = resampled_rates(torch.cat([sums for _, _, sums in figures], dim=1))
        parts = rates.split([sums.shape[1] for _, _, sums in figures], dim=1)
        for (i, j, _), part in zip(figures, parts, strict=True):
            made[i].figures[columns[j].name] = _figure(part.unbind(1))
    return made


def _figure(rates: Sequence[Tensor]) -> Figure | None:
    """The figure of one column; None if a share would be one of nothing."""
    if len(rates) == 3 and rates[1][0] < rates[0][0]:  # of a metric that is better when it is larger
        rates = [-rate for rate in rates]
    return compare(rates)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
