"""The figures of a study's table equal those of plain loops over its rows."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from wand.evaluation.result import MetricColumn
from wand.evaluation.study.description import Description, Source
from wand.evaluation.study.rows import Errors, StudyRow
from wand.evaluation.study.systems import StudySystem
from wand.evaluation.study.table import StudyTable, make_table
from wand.evaluation.study.table_text import write_table
from wand.metrics.intervals import RESAMPLES

LENGTHS = {"a": 2.0, "b": 2.9, "c": 4.0, "d": 7.5, "e": 3.0, "f": 1.0, "g": None}
SPEAKERS = {name: "iris" if name == "f" else "anna" for name in LENGTHS}
SYSTEMS = ("recorded", "teacher", "untrained", "student")
WORSE = {"recorded": 0, "teacher": 1, "untrained": 6, "student": 2}
COLUMNS = (MetricColumn("mcd", "MCD", "a distance", 2), MetricColumn("never", "never", "always undefined", 1))


VALUES: dict[str, float | None] = {"mcd": 1.0, "never": None}


def description(systems: tuple[str, ...] = SYSTEMS) -> Description:
    return Description(
        systems=tuple(StudySystem(name, name, None, None) for name in systems),
        sentences=Source("a list", len(LENGTHS)),
        seeds=(0, 1),
        recognisers=("one", "two"),
        language="en",
        metrics=COLUMNS,
        sample_rate=16_000,
        unseen=("iris",),
        made_of={},
        versions={},
    )


def make_rows() -> list[StudyRow]:
    rng = random.Random(0)
    return [
        make_row(rng, name, system, seed)
        for name in LENGTHS
        for system in SYSTEMS
        for seed in ((0,) if system == "recorded" else (0, 1))
        if system != "recorded" or LENGTHS[name]
    ]


def make_row(rng: random.Random, name: str, system: str, seed: int) -> StudyRow:
    worse = WORSE[system]
    errors = {
        ear: Errors(worse + rng.randint(0, 2), 20 + len(name), rng.randint(0, 1 + worse // 2), 7)
        for ear in ("one", "two")
    }
    defined = (name, system) not in (("b", "student"), ("c", "teacher")) and not (name == "d" and seed)
    mcd = {"mcd": worse + rng.random() if defined else None, "never": None}
    return StudyRow(name, system, seed, SPEAKERS[name], "text", {}, "stop token", 1.0, LENGTHS[name], errors, mcd, None)


def counts(row: StudyRow, column: str) -> tuple[float, float]:
    kind, _, ear = column.partition(":")
    if kind == "cer":
        return row.errors[ear].wrong_letters, row.errors[ear].letters
    if kind == "wer":
        return row.errors[ear].wrong_words, row.errors[ear].words
    value = row.metrics[column]
    return (0, 0) if value is None else (value, 1)


def rate(rows: list[StudyRow], ids: list[str], system: str, column: str) -> float:
    """A rate over sentences, of which some may be drawn twice."""
    own = [counts(row, column) for name in ids for row in rows if (row.id, row.system) == (name, system)]
    below = sum(count for _, count in own)
    return sum(count for count, _ in own) / below if below else math.nan


def both_have(rows: list[StudyRow], systems: tuple[str, ...], column: str) -> list[StudyRow]:
    """The rows of sentences in which all systems have a value."""
    has = {(row.id, row.system) for row in rows if counts(row, column)[1]}
    return [row for row in rows if all((row.id, system) in has for system in systems)]


@pytest.fixture(scope="module")
def rows() -> list[StudyRow]:
    return make_rows()


@pytest.fixture(scope="module")
def table(rows: list[StudyRow]) -> StudyTable:
    return make_table(rows, description())


def test_sentences_are_grouped_by_length_and_voice(table: StudyTable) -> None:
    parts = [(part.name, part.sentences) for part in table.parts]
    assert parts == [("all", 6), ("< 3 s", 2), ("3-6 s", 2), ("> 6 s", 1), ("unseen voices", 1)]


PARTS = {"all": list("abcdeg"), "< 3 s": ["a", "b"], "3-6 s": ["c", "e"], "> 6 s": ["d"], "unseen voices": ["f"]}


def test_every_figure_is_that_of_a_loop(rows: list[StudyRow], table: StudyTable) -> None:
    assert [column.name for column in table.columns] == ["cer:one", "wer:one", "cer:two", "wer:two", "mcd", "never"]
    compared = 0
    for part in table.parts:
        titles = [line.title for line in part.lines]
        assert titles[:4] == [*SYSTEMS]
        assert titles[4:] == [
            "recorded - teacher",
            "untrained - teacher",
            "student - teacher",
            "student: % of untrained won back",
        ]
        for line in part.lines[:-1]:
            for column, figure in line.figures.items():
                kept = both_have(rows, line.systems, column)
                rates = [rate(kept, PARTS[part.name], system, column) for system in line.systems]
                expected = rates[0] - (rates[1] if len(rates) == 2 else 0)
                if math.isnan(expected):
                    assert figure is None
                else:
                    assert figure is not None
                    assert figure.value == pytest.approx(expected)
                    compared += 1
    assert compared > 100
    share = table.parts[0].lines[-1].figures
    for column in ("cer:one", "mcd"):
        kept = both_have(rows, SYSTEMS[1:], column)
        teacher, untrained, student = (rate(kept, PARTS["all"], system, column) for system in SYSTEMS[1:])
        assert share[column].value == pytest.approx((untrained - student) / (untrained - teacher))


def test_intervals_are_those_of_sentences_drawn_with_all_their_takes(rows: list[StudyRow], table: StudyTable) -> None:
    ids = PARTS["all"]
    drawn = torch.randint(len(ids), (RESAMPLES, len(ids)), generator=torch.Generator().manual_seed(0)).tolist()
    for title, systems in (("student", ("student",)), ("student - teacher", ("student", "teacher"))):
        line = next(line for line in table.parts[0].lines if line.title == title)
        for column in ("cer:two", "wer:one"):
            sums = {
                (name, system): np.array(
                    [counts(row, column) for row in rows if (row.id, row.system) == (name, system)]
                ).sum(0)
                for name in ids
                for system in systems
            }
            found = []
            for places in drawn:
                own = [sum(sums[ids[i], system] for i in places) for system in systems]
                rates = [above / below for above, below in own]
                found.append(rates[0] - (rates[1] if len(rates) == 2 else 0))
            assert line.figures[column].interval == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])))


def test_a_share_needs_a_difference_that_is_no_chance(rows: list[StudyRow]) -> None:
    level = [row for row in rows if row.system != "untrained"]
    level += [StudyRow(row.id, "untrained", *row_rest(row)) for row in rows if row.system == "teacher"]
    lines = make_table(level, description()).parts[0].lines
    assert lines[-1].figures["cer:one"] is None
    assert lines[-1].figures["mcd"] is None
    # What is better when it is larger is won back in the same way.
    turned = [
        StudyRow(
            row.id,
            row.system,
            *row_rest(row)[:-2],
            {**row.metrics, "mcd": None if row.metrics["mcd"] is None else -row.metrics["mcd"]},
            None,
        )
        for row in rows
    ]
    assert (
        make_table(turned, description()).parts[0].lines[-1].figures["mcd"]
        == make_table(rows, description()).parts[0].lines[-1].figures["mcd"]
    )


def test_one_sentence_has_no_interval(table: StudyTable) -> None:
    (alone,) = (part for part in table.parts if part.sentences == 1 and part.name == "> 6 s")
    figure = alone.lines[1].figures["cer:one"]
    assert figure is not None
    assert all(math.isnan(bound) for bound in figure.interval)
    assert alone.lines[-1].figures["cer:one"] is None


def row_rest(row: StudyRow) -> list:
    names = ("seed", "speaker", "text", "heard", "ended", "seconds", "recorded_seconds", "errors", "metrics", "sound")
    return [getattr(row, name) for name in names]


def test_the_files_of_a_table(rows: list[StudyRow], table: StudyTable, tmp_path: Path) -> None:
    write_table(table, description(), tmp_path)
    made = json.loads((tmp_path / "table.json").read_text(), parse_constant=pytest.fail)  # no NaN
    assert (
        made["parts"][0]["lines"][1]["figures"]["cer:one"]["value"] == table.parts[0].lines[1].figures["cer:one"].value
    )
    text = (tmp_path / "table.md").read_text()
    assert "## 6 sentences, heard by one, two\n\n| system | CER %, one [95 %] |" in text
    assert "## CER % [95 %] of some of the sentences, heard by two\n\n| system | < 3 s (2) | 3-6 s (2) |" in text
    assert "| never " in text
    line = next(line for line in text.splitlines() if line.startswith("| student - teacher "))
    assert line.split(" | ")[1].startswith(f"{100 * table.parts[0].lines[6].figures['cer:one'].value:+.1f} [")
    assert "MCD: a distance" in text


def test_long_texts_are_judged_by_thirds() -> None:
    text, heard = "the cat sat down by him", {"one": "he cat sat down by ham", "two": "the cat sat down"}
    none = Errors(0, 23, 0, 6)
    rows = [
        StudyRow(
            name,
            "student",
            0,
            "anna",
            text,
            heard,
            "stop token",
            seconds,
            None,
            {"one": none, "two": none},
            VALUES,
            None,
        )
        for name, seconds in (("a", 16.0), ("b", 14.0), ("c", 20.0))
    ]
    (line,) = make_table(rows, description(("student",))).parts[0].lines
    shares = {name: figure.value for name, figure in line.figures.items() if name.startswith("cer_")}
    # "the cat " has 8 letters and blanks, "by him" has 6.
    assert shares == pytest.approx(
        {"cer_first:one": 1 / 8, "cer_last:one": 1 / 6, "cer_first:two": 0, "cer_last:two": 1}
    )


def test_without_a_teacher_there_are_no_differences(rows: list[StudyRow]) -> None:
    kept = [row for row in rows if row.system in ("recorded", "student")]
    lines = make_table(kept, description(("recorded", "student"))).parts[0].lines
    assert [line.title for line in lines] == ["recorded", "student"]
