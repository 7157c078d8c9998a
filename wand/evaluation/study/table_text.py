"""The table of a study on the console and as Markdown, and its files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from wand.console.tables import markdown, show_table
from wand.evaluation.quality import BUCKETS
from wand.evaluation.study.description import Description
from wand.evaluation.study.table import UNSEEN, Comparison, FigureColumn, Part, StudyTable, letters_of, thirds_of
from wand.files.writing import write_text
from wand.metrics.paired import Figure


def write_table(table: StudyTable, study: Description, folder: Path) -> None:
    """Write ``table.json`` and ``table.md``."""
    write_text(folder / "table.json", json.dumps(table.to_json(), indent=2, ensure_ascii=False) + "\n")
    parts = [f"## {title}\n\n{markdown(titles, lines)}" for title, titles, lines in _tables(table, study)]
    write_text(folder / "table.md", "\n\n".join([*parts, *legend(table, study)]) + "\n")


def show(table: StudyTable, study: Description) -> None:
    """Print the tables and what they mean."""
    for title, titles, lines in _tables(table, study):
        show_table(title, titles, lines)
    for line in legend(table, study):
        print(line)


def legend(table: StudyTable, study: Description) -> list[str]:
    """What the table shows, in words."""
    seeds = f"{len(study.seeds)} {'seed' if len(study.seeds) == 1 else 'seeds'}"
    lines = [
        f"Heard by {', '.join(study.recognisers)}. {study.sentences.count} sentences of {study.sentences.source}, "
        f"{seeds}. Brackets: 95 % interval from resampled sentences. Differences are paired; those of percentages are "
        f"in points.",
        "; ".join(f"{column.title}: {column.legend}" for column in _main_columns(table, study)) + ".",
    ]
    if any(len(line.systems) == 3 for line in table.parts[0].lines):
        lines.append(
            "Won back: how much of the untrained window's difference from the teacher the student has made good, in "
            "percent; no figure where the interval of that difference includes 0."
        )
    if study.unseen:
        lines.append(
            f"The main table and the groups by length have the {table.parts[0].sentences} sentences in trained voices. "
            f"{UNSEEN}: those in {', '.join(study.unseen)}, which were not trained on."
        )
    if len(table.parts) > 1:
        bounds = ", ".join(f"{bound:g}" for bound in BUCKETS)
        lines.append(
            f"Sentences are grouped by the length of the recording, with the bounds {bounds} s. table.json has all "
            f"columns of each group."
        )
    return lines


def _tables(table: StudyTable, study: Description) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, titles of the columns and cells of every table.

    All sentences, then their CER by third of the text, then CER of each part.
    """
    everything, *others = table.parts
    heard = ", ".join(study.recognisers)
    made = [_whole(f"{everything.sentences} sentences, heard by {heard}", everything, _main_columns(table, study))]
    for ear in study.recognisers:
        thirds = [column for column in table.columns if column.name in thirds_of(ear).values()]
        made.append(_whole(f"CER % by third of the words of each text, heard by {ear}", everything, thirds))
    for ear in study.recognisers if others else ():
        column = next(column for column in table.columns if column.name == letters_of(ear))
        titles = ["system", *(f"{part.name} ({part.sentences})" for part in others)]
        lines = zip(*(part.lines for part in others), strict=True)
        cells = [[own[0].title, *(_cell(line, column) for line in own)] for own in lines]
        made.append((f"CER % [95 %] of some of the sentences, heard by {ear}", titles, cells))
    return made


def _whole(title: str, part: Part, columns: Sequence[FigureColumn]) -> tuple[str, list[str], list[list[str]]]:
    """Some columns of all lines of a part."""
    titles = ["system", *(f"{column.title} [95 %]" for column in columns)]
    return title, titles, [[line.title, *(_cell(line, column) for column in columns)] for line in part.lines]


def _main_columns(table: StudyTable, study: Description) -> list[FigureColumn]:
    """The columns that are not those of thirds."""
    thirds = {name for ear in study.recognisers for name in thirds_of(ear).values()}
    return [column for column in table.columns if column.name not in thirds]


def _cell(line: Comparison, column: FigureColumn) -> str:
    figure = line.figures[column.name]
    if figure is None:
        return "-"
    if len(line.systems) == 3:
        return _number(figure, 100, 0)
    return _number(figure, 100 if column.percent else 1, column.digits, "+" if len(line.systems) == 2 else "")


def _number(figure: Figure, factor: float, digits: int, sign: str = "") -> str:
    low, high = figure.interval
    form = f"{sign}.{digits}f"
    if not (math.isfinite(low) and math.isfinite(high)):  # too few sentences have a value
        return f"{factor * figure.value:{form}}"
    return f"{factor * figure.value:{form}} [{factor * low:{form}}, {factor * high:{form}}]"
