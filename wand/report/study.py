"""The figures of a study, from the files of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wand.evaluation.result_files import TABLE
from wand.evaluation.result_table import percent
from wand.evaluation.study.description import STUDY
from wand.evaluation.systems import RECORDED
from wand.files.plain_values import read_json
from wand.files.typed import reading
from wand.report.charts import Bar, BarChart
from wand.report.figures import Table
from wand.report.markdown import read_tables

LETTERS = "cer:"


def study_tables(folder: Path, source: str) -> list[Table]:
    """The tables of a study: all sentences, with the meaning of the columns, then groups of them.

    Args:
        folder: The study.
        source: Name of the folder, for readers.
    """
    tables = read_tables(folder / "table.md", f"{source}table.md")
    meanings = tables[-1].notes if tables else []  # stand at the end of the file
    return [replace(table, notes=[] if i else meanings) for i, table in enumerate(tables)]


def study_charts(folder: Path, source: str) -> list[BarChart]:
    """The error rates of every system for the first recogniser, and by length of the sentences."""
    with reading(folder):
        column, parts = _letters(folder)
        if column is None:
            return []
        kinds = {system["name"]: system["kind"] for system in read_json(folder / STUDY)["systems"]}
        groups = [(_title(part), _bars(part, column, kinds)) for part in parts]
    heard = f"heard by {column.removeprefix(LETTERS)}"
    (_, everything), *others = groups
    charts = [BarChart(f"CER in %, with 95 % interval, {heard}", [("", everything)], f"{source}{TABLE}")]
    if others:
        charts.append(BarChart(f"CER in % by group of sentences, {heard}", others, f"{source}{TABLE}"))
    return charts


def study_sentence(folder: Path) -> str:
    """One sentence on the systems and how they were heard."""
    with reading(folder):
        study = read_json(folder / STUDY)
        sentences, seeds = study["sentences"], len(study["seeds"])
        spoke = sum(system["kind"] != RECORDED for system in study["systems"])
        said = (
            f"{spoke} {'system' if spoke == 1 else 'systems'} spoke {sentences['count']} sentences of "
            f"{sentences['source']} with {seeds} {'seed' if seeds == 1 else 'seeds'}"
        )
        column, parts = _letters(folder)
        if column is None:
            return f"{said}."
        bars = _bars(parts[0], column, {})
        rates = ", ".join(f"{bar.name} {bar.value:.1f} %" for bar in bars)
        among = f", in the {parts[0]['sentences']} sentences in trained voices" if study["unseen"] else ""
    return f"{said}: {column.removeprefix(LETTERS)} hears this share of the letters wrong{among}: {rates}."


def study_versions(folder: Path) -> dict[str, str]:
    """The versions of the programs that made a study, by name."""
    return {name: str(version) for name, version in read_json(folder / STUDY).get("versions", {}).items()}


def _letters(folder: Path) -> tuple[str | None, list[Mapping[str, Any]]]:
    """The name of the first column of letter error rates, and the parts of the table."""
    table = read_json(folder / TABLE)
    names = [column["name"] for column in table["columns"]]
    return next((name for name in names if name.startswith(LETTERS)), None), table["parts"]


def _title(part: Mapping[str, Any]) -> str:
    return f"{part['name']} ({part['sentences']})"


def _bars(part: Mapping[str, Any], column: str, kinds: Mapping[str, str]) -> list[Bar]:
    bars = []
    for line in part["lines"]:
        figure = line["figures"][column]
        if len(line["systems"]) == 1 and figure is not None:
            (name,), rate = line["systems"], figure["value"]
            low, high = figure["interval"]
            bounds = None if low is None or high is None else (low, high)
            shown = None if bounds is None else (100 * bounds[0], 100 * bounds[1])
            bars.append(Bar(name, kinds.get(name, name), 100 * rate, percent(rate, bounds), shown))
    return bars
