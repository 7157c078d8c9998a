"""The figures of a study's table equal those of plain loops over its rows."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wand.evaluation.result import MetricColumn
from wand.evaluation.study.description import Description, Source
from wand.evaluation.study.rows import Errors, StudyRow
from wand.evaluation.study.systems import StudySystem
from wand.evaluation.study.table import StudyTable, make_table
from wand.evaluation.study.table_text import legend, write_table
from wand.metrics.intervals import RESAMPLES

LENGTHS = {"a": 2.0, "b": 2.9, "c": 4.0, "d": 7.5, "e": 3.0, "f": 1.0, "g": None}
SPEAKERS = {name: "iris" if name == "f" else "anna" for name in LENGTHS}
SYSTEMS = ("recorded", "teacher", "untrained", "student")
WORSE = {"recorded": 0, "teacher": 1, "untrained": 6, "student": 2}
COLUMNS = (MetricColumn("mcd", "MCD", "a distance", 2), MetricColumn("never", "never", "always undefined", 1))


TEXT = "the cat sat down by him"
PLACES = {"first": slice(0, 8), "middle": slice(8, 17), "last": slice(17, 23)}
# Sentence, system and seed of the takes without a distance.
UNDEFINED = {
    *(("b", "student", seed) for seed in (0, 1)),
    *(("c", "teacher", seed) for seed in (0, 1)),
    *(("d", system, 1) for system in ("teacher", "untrained", "student")),
    ("a", "student", 1),
    ("e", "teacher", 0),
}
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
    heard = {ear: misheard(rng, 0.05 * worse) for ear in ("one", "two")}
    mcd = {"mcd": None if (name, system, seed) in UNDEFINED else worse + rng.random(), "never": None}
    return StudyRow(
        name, system, seed, SPEAKERS[name], TEXT, heard, "stop token", 1.0, LENGTHS[name], errors, mcd, None
    )


def misheard(rng: random.Random, share: float) -> str:
    """The text, with another letter in the place of some."""
    return "".join("x" if letter != " " and rng.random() < share else letter for letter in TEXT)


def counts(row: StudyRow, column: str) -> tuple[float, float]:
    kind, _, ear = column.partition(":")
    if kind == "cer":
        return row.errors[ear].wrong_letters, row.errors[ear].letters
    if kind == "wer":
        return row.errors[ear].wrong_words, row.errors[ear].words
    if kind.startswith("cer_"):
        third = row.heard[ear][PLACES[kind.removeprefix("cer_")]]
        return third.count("x"), len(third)
    value = row.metrics[column]
    return (0, 0) if value is None else (value, 1)


Pairs = dict[str, list[list[tuple[float, float]]]]


def paired(rows: list[StudyRow], systems: tuple[str, ...], column: str) -> Pairs:
    """The counts of all systems in every sentence and seed for which all have a value, by sentence."""
    pairs: Pairs = {}
    for name in sorted(LENGTHS):
        for seed in (0, 1):
            own = [
                counts(row, column)
                for system in systems
                for row in rows
                if (row.id, row.system, row.seed) == (name, system, 0 if system == "recorded" else seed)
            ]
            if len(own) == len(systems) and all(below for _, below in own):
                pairs.setdefault(name, []).append(own)
    return pairs


def difference(pairs: Pairs, ids: list[str], systems: int) -> float:
    """The rate of one system, or that of the first minus that of the second; a sentence may be drawn twice."""
    chosen = [own for name in ids for own in pairs.get(name, [])]
    if not chosen:
        return math.nan
    rates = [sum(own[i][0] for own in chosen) / sum(own[i][1] for own in chosen) for i in range(systems)]
    return rates[0] - (rates[1] if systems == 2 else 0)


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
    names = ("cer", "wer", "cer_first", "cer_middle", "cer_last")
    assert [column.name for column in table.columns] == [
        *(f"{name}:{ear}" for ear in ("one", "two") for name in names), "mcd", "never",
    ]  # fmt: skip
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
                pairs = paired(rows, line.systems, column)
                expected = difference(pairs, PARTS[part.name], len(line.systems))
                if math.isnan(expected):
                    assert figure is None
                else:
                    assert figure is not None
                    assert figure.value == pytest.approx(expected)
                    compared += 1
    assert compared > 100
    share = table.parts[0].lines[-1].figures
    for column in ("cer:one", "mcd"):
        pairs = paired(rows, SYSTEMS[1:], column)
        ids = [name for name in PARTS["all"] if name in pairs]
        teacher, untrained, student = (
            difference({name: [[own[i]] for own in pairs[name]] for name in ids}, ids, 1) for i in range(3)
        )
        assert share[column].value == pytest.approx((untrained - student) / (untrained - teacher))


@pytest.mark.parametrize("column", ["cer:two", "wer:one", "cer_last:one", "mcd"])
@pytest.mark.parametrize(
    ("title", "systems"),
    [
        ("student", ("student",)),
        ("student - teacher", ("student", "teacher")),
        ("recorded - teacher", ("recorded", "teacher")),
    ],
)
def test_intervals_are_those_of_sentences_drawn_with_all_their_seeds(
    rows: list[StudyRow], table: StudyTable, title: str, systems: tuple[str, ...], column: str
) -> None:
    pairs = paired(rows, systems, column)
    ids = [name for name in PARTS["all"] if name in pairs]
    drawn = torch.randint(len(ids), (RESAMPLES, len(ids)), generator=torch.Generator().manual_seed(0)).tolist()
    found = [difference(pairs, [ids[i] for i in places], len(systems)) for places in drawn]
    line = next(line for line in table.parts[0].lines if line.title == title)
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


def test_the_legend_says_whose_voices_the_main_table_has(table: StudyTable) -> None:
    said = [line for line in legend(table, description()) if "unseen voices" in line]
    assert said == [
        "The main table and the groups by length have the 6 sentences in trained voices. unseen voices: those in iris, "
        "which were not trained on."
    ]
    assert not any("trained voices" in line for line in legend(table, replace(description(), unseen=())))


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


def test_errors_are_found_in_the_thirds_of_a_text(tmp_path: Path) -> None:
    heard = {"one": "he cat sat down by ham", "two": "the cat sat down"}
    none = Errors(0, 23, 0, 6)
    errors = {"one": none, "two": none}
    row = StudyRow("a", "student", 0, "anna", TEXT, heard, "stop token", 2.0, None, errors, VALUES, None)
    table = make_table([row], description(("student",)))
    (line,) = table.parts[0].lines
    shares = {name: figure.value for name, figure in line.figures.items() if name.startswith("cer_")}
    # "the cat " has 8 letters and blanks, "sat down " has 9, "by him" has 6.
    assert shares == pytest.approx(
        {
            "cer_first:one": 1 / 8,
            "cer_middle:one": 0,
            "cer_last:one": 1 / 6,
            "cer_first:two": 0,
            "cer_middle:two": 1 / 9,
            "cer_last:two": 1,
        }
    )
    write_table(table, description(("student",)), tmp_path)
    text = (tmp_path / "table.md").read_text()
    titles = "| system | first third [95 %] | middle third [95 %] | last third [95 %] |"
    assert f"## CER % by third of the words of each text, heard by two\n\n{titles}" in text
    assert "| student | 0.0 | 11.1 | 100.0 |" in text


def test_without_a_teacher_there_are_no_differences(rows: list[StudyRow]) -> None:
    kept = [row for row in rows if row.system in ("recorded", "student")]
    lines = make_table(kept, description(("recorded", "student"))).parts[0].lines
    assert [line.title for line in lines] == ["recorded", "student"]
