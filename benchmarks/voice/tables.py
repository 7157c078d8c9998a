"""Word error rates of the stages, their differences, and the intervals of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.voice.sentences import CLASSES
from benchmarks.voice.stages import CODEC, ORIGINAL, STUDENT, TEACHER, UNTRAINED
from wand.console.tables import markdown
from wand.metrics.paired import Figure, compare, resampled_rates
from wand.metrics.words import errors

ALL = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: a stage, a difference of two stages, or the share won back.

    Args:
        title: What it is.
        wer: WER of all sentences and of each length class that has sentences, in percent (points, for a difference);
            None if a share is of nothing.
        cer: CER of all sentences.
    """

    title: str
    wer: dict[str, Figure | None]
    cer: Figure | None


@dataclass(frozen=True, slots=True)
class Table:
    """What one ear has heard of one list.

    Args:
        ear: Name of the recogniser.
        sentences: Number of sentences, of all and of each length class that has any.
        rows: Its lines.
    """

    ear: str
    sentences: dict[str, int]
    rows: list[Row]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def to_markdown(self) -> str:
        """The table."""
        titles = [f"WER % {name} ({count})" for name, count in self.sentences.items()]
        cells = [[row.title, *map(_cell, row.wer.values()), _cell(row.cer)] for row in self.rows]
        return markdown([f"heard by {self.ear}", *titles, "CER %"], cells)


def make_table(ear: str, texts: Sequence[str], classes: Sequence[str], heard: Mapping[str, Sequence[str]]) -> Table:
    """The table of one ear.

    Args:
        ear: Name of the recogniser.
        texts: The N sentences.
        classes: Length class of each.
        heard: What the ear heard, one text per sentence, by stage.
    """
    counted = {name: count(texts, own) for name, own in heard.items()}
    chosen = {ALL: torch.ones(len(texts), dtype=torch.bool)}
    chosen |= {name: torch.tensor([own == name for own in classes]) for name in CLASSES if name in classes}
    rates = {name: _rates({stage: one[mask] for stage, one in counted.items()}) for name, mask in chosen.items()}
    rows = []
    for title, stages in comparisons(list(heard)):
        wer = {name: _percent([own[stage][:, 0] for stage in stages]) for name, own in rates.items()}
        rows.append(Row(title, wer, _percent([rates[ALL][stage][:, 1] for stage in stages])))
    return Table(ear, {name: int(mask.sum()) for name, mask in chosen.items()}, rows)


def count(texts: Sequence[str], heard: Sequence[str]) -> Tensor:
    """Wrong words (at most the sentence has), words, wrong letters and letters of N sentences: float64 ``[N, 4]``."""
    counts = []
    for text, own in zip(texts, heard, strict=True):
        wrong_letters, letters, wrong_words, words = errors(own, text)
        counts.append((min(wrong_words, words), words, wrong_letters, letters))
    return torch.tensor(counts, dtype=torch.float64)


def comparisons(stages: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Title and stages of every row: one stage, two for a difference (first minus second), three for a share."""
    untrained = [name for name in stages if name.startswith(UNTRAINED)]
    pairs = [(CODEC, ORIGINAL), (TEACHER, ORIGINAL), (STUDENT, TEACHER), *((name, TEACHER) for name in untrained)]
    rows: list[tuple[str, tuple[str, ...]]] = [(name, (name,)) for name in stages]
    rows += [(f"{one} - {other}", (one, other)) for one, other in pairs if {one, other} <= set(stages)]
    if STUDENT in stages:
        rows += [(f"% of {name} won back", (TEACHER, name, STUDENT)) for name in untrained]
    return rows


def _rates(counted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """WER and CER by stage, ``[1 + R, 2]``: of all sentences, then of R resamples that the stages share."""
    rates = resampled_rates(torch.cat(list(counted.values()), dim=1).unflatten(1, (-1, 2)))
    return dict(zip(counted, rates.unflatten(1, (-1, 2)).unbind(1), strict=True))


def _percent(rates: Sequence[Tensor]) -> Figure | None:
    """A rate, a difference of two, or the share of a loss that was won back, from ``[1 + R]`` of each."""
    figure = compare(rates)
    if figure is None:
        return None
    low, high = figure.interval
    return Figure(100 * figure.value, (100 * low, 100 * high))


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.value:.1f} [{figure.interval[0]:.1f}, {figure.interval[1]:.1f}]"
