"""The ranking of a model's attention heads as a table, in Markdown and in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wand.alignment.ranking import RankedHead, heads_that_pass
from wand.console.tables import Column, cells, markdown, show_table
from wand.files.writing import write_text
from wand.model.alignment import AlignmentHead

# Heads that are printed; the files have all.
SHOWN = 10
NAME = "ranking"
COLUMNS: list[Column[RankedHead]] = [
    Column("layer", lambda one: str(one.head.layer)),
    Column("head", lambda one: str(one.head.head)),
    Column("score", lambda one: f"{one.score:.3f}", "score: mean of steps x pace x reach over the sentences."),
    Column(
        "steps",
        lambda one: f"{one.scores.steps:.3f}",
        "steps: share of steps, from column to column, that go back by at most one token and forward by no more than a "
        "speech does.",
    ),
    Column(
        "pace", lambda one: f"{one.scores.pace:.3f}", "pace: share of the path's variance that a steady pace explains."
    ),
    Column("reach", lambda one: f"{one.scores.reach:.3f}", "reach: share of the text between its begin and its end."),
    Column("text", lambda one: f"{one.scores.text:.3f}", "text: share of the attention that is on the text."),
]


@dataclass(frozen=True)
class AlignmentReport:
    """What `wand align` has found.

    Args:
        model: Name of the model.
        window: Its window, as plain values.
        sentences: Number of recordings that the model has read.
        threshold: The least score of a head that passes.
        ranked: All heads, the best one first.
    """

    model: str
    window: int | list[int] | None
    sentences: int
    threshold: float
    ranked: Sequence[RankedHead]

    @property
    def heads(self) -> tuple[AlignmentHead, ...]:
        """The alignment heads of the model: those that pass."""
        return heads_that_pass(self.ranked, self.threshold)

    @property
    def title(self) -> str:
        """What was measured, in words."""
        return f"Attention heads of {self.model}, window {self.window}, over {self.sentences} recorded sentences"

    def verdict(self) -> str:
        """Whether a head passes, with the score of the best head and that of the next."""
        first, *others = self.ranked
        said = f"head ({first.head.layer}, {first.head.head}) has the score {first.score:.3f}"
        if others:
            second = others[0]
            said += f", the next best, ({second.head.layer}, {second.head.head}), has {second.score:.3f}"
        return f"{'The best head passes' if self.heads else 'No head passes'} the threshold {self.threshold:g}: {said}."

    def about(self) -> dict[str, Any]:
        """How the heads were found, in plain values."""
        return {
            "sentences": self.sentences,
            "threshold": self.threshold,
            "best_score": round(self.ranked[0].score, 4),
        }


def show(report: AlignmentReport) -> None:
    """Print the best heads, the meaning of the columns and the verdict."""
    show_table("Heads that follow the text", *cells(COLUMNS, report.ranked[:SHOWN]), words=0)
    for line in [*_legend(), f"{report.title}.", report.verdict()]:
        print(line)


def save(report: AlignmentReport, folder: Path) -> None:
    """Write ``ranking.json`` and ``ranking.md``, with all heads."""
    values = {
        "model": report.model,
        "window": report.window,
        **report.about(),
        "heads": [{**one.head._asdict(), "score": one.score, **asdict(one.scores)} for one in report.ranked],
    }
    write_text(folder / f"{NAME}.json", json.dumps(values, indent=2) + "\n")
    legend = "\n".join(f"* {line}" for line in _legend())
    table = markdown(*cells(COLUMNS, report.ranked))
    write_text(folder / f"{NAME}.md", f"{report.title}.\n\n{report.verdict()}\n\n{table}\n\n{legend}\n")


def _legend() -> list[str]:
    return [column.legend for column in COLUMNS if column.legend]
