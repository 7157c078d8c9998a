"""The numbers of a test as tables and charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wand.console.tables import Column, cells
from wand.evaluation.quality import SpeechQuality
from wand.evaluation.result import Row, TestResult
from wand.evaluation.result_table import SYSTEM_COLUMNS, code_columns, legend, percent, spoken_columns, summary
from wand.report.charts import Bar, BarChart


@dataclass(frozen=True)
class Table:
    """A table and what its columns mean.

    Args:
        title: Its title.
        columns: Titles of the columns.
        lines: Cells of every line.
        notes: Its legend, in sentences.
        source: The file that holds the numbers.
        words: Number of leading columns with words; the others have numbers.
        intro: Sentences before the table.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str]
    source: str
    words: int = 1
    intro: Sequence[str] = ()


def quality_table(result: TestResult, source: str) -> Table | None:
    """How the systems spoke; None if nothing was spoken."""
    columns = spoken_columns(result)
    if not columns:
        return None
    notes = [*legend(result)[:2], _meanings(columns), *filter(None, [summary(result)])]
    return Table("Speech", *cells([*SYSTEM_COLUMNS, *columns], result.rows), notes, source)


def cost_table(result: TestResult, source: str) -> Table:
    """Likeness to the teacher, memory and time."""
    columns = code_columns(result)
    return Table("Codes and cost", *cells([*SYSTEM_COLUMNS, *columns], result.rows), [_meanings(columns)], source)


def quality_charts(result: TestResult, source: str) -> list[BarChart]:
    """CER of every system, and by length of the sentences."""
    spoken = [(row, row.speech) for row in result.rows if row.speech is not None]
    if not spoken:
        return []
    lengths = list(dict.fromkeys(name for _, speech in spoken for name in speech.cer_by_length))
    groups = [
        (length, [_rate(row, s.cer_by_length[length]) for row, s in spoken if length in s.cer_by_length])
        for length in lengths
    ]
    return [
        BarChart("CER in %, with 95 % interval", [("", [_cer(row, speech) for row, speech in spoken])], source),
        BarChart("CER in % by length of the recording", groups, source),
    ]


def cost_charts(result: TestResult, source: str) -> list[BarChart]:
    """Memory and time of every system."""
    rows = result.rows
    memory = [
        (f"after {seconds:g} s of speech", [_bar(row, row.kv_bytes[seconds] / 2**20, ".2f", "MiB") for row in rows])
        for seconds in rows[0].kv_bytes
    ]
    time = [
        (f"after {columns} columns", [_bar(row, row.step_ms[columns], ".2f", "ms") for row in rows])
        for columns in rows[0].step_ms
    ]
    titles = ("Memory: KV cache of one voice, MiB", "Latency: one decoding step, ms")
    return [BarChart(title, groups, source) for title, groups in zip(titles, (memory, time), strict=True) if groups]


def student_table(students: Sequence[tuple[str, Row]], result: TestResult, source: str) -> Table:
    """The students of several runs.

    Args:
        students: Name of the run and figures of its student.
        result: A result with these rows, for its columns.
        source: The files that hold the numbers.
    """
    common = replace(result, rows=[_with_common(row, result.rows) for row in result.rows])
    columns = [*spoken_columns(common), *code_columns(common)]
    titles, lines = cells([*SYSTEM_COLUMNS[1:], *columns], common.rows)
    named = [[name, *line] for (name, _), line in zip(students, lines, strict=True)]
    return Table("The students", ["run", *titles], named, [_meanings(columns)], source)


def _with_common(row: Row, rows: Sequence[Row]) -> Row:
    """A row with the lengths of cache and step that all rows have."""
    seconds = {key: row.kv_bytes[key] for key in row.kv_bytes if all(key in other.kv_bytes for other in rows)}
    columns = {key: row.step_ms[key] for key in row.step_ms if all(key in other.step_ms for other in rows)}
    return replace(row, kv_bytes=seconds, step_ms=columns)


def _cer(row: Row, speech: SpeechQuality) -> Bar:
    text = percent(speech.cer, speech.cer_interval)
    bounds = None if speech.cer_interval is None else (100 * speech.cer_interval[0], 100 * speech.cer_interval[1])
    return Bar(row.system.name, row.system.kind, 100 * speech.cer, text, bounds)


def _rate(row: Row, rate: float) -> Bar:
    return Bar(row.system.name, row.system.kind, 100 * rate, percent(rate))


def _bar(row: Row, value: float, form: str, unit: str) -> Bar:
    return Bar(row.system.name, row.system.kind, value, f"{value:{form}} {unit}")


def _meanings(columns: Sequence[Column[Row]]) -> str:
    return "; ".join(column.legend for column in columns if column.legend) + "."
