"""`wand evaluate` on a tiny run: systems, lists, shards, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.workplace import Workplace
from wand.cli import main
from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.evaluation.study.description import read_description
from wand.evaluation.study.rows import read_rows
from wand.evaluation.study.systems import student_names

REFERENCE = "samples/0-reference.wav"
TWO = ["evaluate", "runs/quickstart", "--sentences", "2", "--sounds", "1"]
EARS = ["--recogniser", "embedded", "tests.recognition.test_named.Loudness:words/loud"]


class ReferenceSeconds(TestMetric):
    """A metric of the user: how long the voice that was cloned is heard, times a factor."""

    name = "reference_seconds"
    title = "voice s"
    legend = "seconds of the reference"

    def __init__(self, factor: str) -> None:
        self.factor = float(factor)

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        return [None if s.reference is None else self.factor * len(s.reference) / s.sample_rate for s in spoken]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_run_is_compared_with_its_teacher(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    mine = ["--metrics", f"{__name__}.ReferenceSeconds:2"]
    command = [*TWO, "--windows", "4", "8", "--seeds", "0", "1", *EARS, *mine, "--out", str(out)]
    assert main(command) == 0
    assert files(out) == {"study.json", "rows-1-of-1.jsonl", "rows.jsonl", "table.json", "table.md", "sounds"}
    rows = read_rows(out / "rows.jsonl")
    study = read_description(out)
    assert [(system.name, system.kind, system.window) for system in study.systems] == [
        ("recorded", "recorded", None),
        ("teacher", "teacher", None),
        ("untrained", "untrained", 8),
        ("untrained-4", "untrained", 4),
        ("student", "student", 8),
    ]
    assert study.systems[1].path == str(run.pretrained)
    assert study.recognisers == ("embedded", "loud")
    assert len(rows) == 2 * (1 + 4 * 2)
    assert {row.metrics["reference_seconds"] for row in rows if row.id == rows[0].id} == {
        rows[0].metrics["reference_seconds"]
    }
    assert all(row.metrics["reference_seconds"] > 0.5 for row in rows)
    assert len([*(out / "sounds").iterdir()]) == sum(row.sound is not None for row in rows) > 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 sentences, heard by embedded, loud" in said
    assert "student - teacher" in said
    assert "voice s: seconds of the reference" in said

    before = {path: path.read_bytes() for path in out.glob("*.*")}
    assert main(["evaluate", "runs/quickstart/", *command[2:]]) == 0  # nothing is left to speak
    assert {path: path.read_bytes() for path in out.glob("*.*")} == before
    changes = {
        "seeds is '0 1', and not '0'": [*TWO, "--windows", "4", *EARS, *mine],
        "system untrained-4 is": [*TWO, "--seeds", "0", "1", *EARS, *mine],
        "sentences is '2 sentences, ": [*command, "--sentences", "1"],
        "recognisers is 'embedded, tests": [*command, "--recogniser", "embedded"],
        "metrics is": [*command, "--metrics", f"{__name__}.ReferenceSeconds:3"],
    }
    for words, changed in changes.items():
        assert main([*changed, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert f"{out} has another study: its {words}" in error
        assert error.count("\n") == 1


def test_exports_and_runs_speak_a_list_in_shards(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--ckpt_path", "runs/quickstart", "--out", str(tmp_path / "exported")]) == 0
    shutil.copy(Path("runs/quickstart") / REFERENCE, tmp_path / "voice.wav")
    (tmp_path / "meta.lst").write_text("1|some words|voice.wav|so it is.|voice.wav\n2/b|some words|voice.wav|no.\n")
    systems = [str(tmp_path / "exported"), "runs/quickstart/checkpoints/best.ckpt"]
    out = tmp_path / "study"
    command = ["evaluate", *systems, "--list", str(tmp_path / "meta.lst"), "--out", str(out), "--max_seconds", "0.5"]
    capsys.readouterr()
    assert main([*command, "--shard", "2/2"]) == 0  # there is one group of sentences, and the first shard has it
    assert "Shard 2/2 is finished. 9 of 9 rows" in capsys.readouterr().out
    assert main([*command, "--shard", "1/2"]) == 0
    rows = {row.key: row for row in read_rows(out / "rows.jsonl")}
    assert {key.system for key in rows} == {"recorded", "teacher", "untrained", "exported", "best"}
    assert {key.id for key in rows if key.system == "recorded"} == {"1"}
    for system in ("teacher", "exported", "best"):
        assert rows["2/b", system, 0].recorded_seconds is None
        assert rows["2/b", system, 0].seconds <= 0.5
    for name in ("1", "2/b"):  # the same weights
        one, other = (rows[name, system, 0] for system in ("exported", "best"))
        assert (one.heard, one.seconds, one.metrics) == (other.heard, other.seconds, other.metrics)
    table = json.loads((out / "table.json").read_text())
    assert table["parts"][0]["sentences"] == 2

    assert main(["evaluate", systems[0], "--list", str(tmp_path / "meta.lst")]) == 2
    assert "is an export, which does not know its teacher" in capsys.readouterr().err
    assert main(["evaluate", systems[0], "--students_only"]) == 2
    assert "names no data: give --config" in capsys.readouterr().err
    assert main(["evaluate", systems[0], "--students_only", *command[3:], "--out", str(tmp_path / "alone")]) == 0
    assert {row.system for row in read_rows(tmp_path / "alone/rows.jsonl")} == {"recorded", "student"}


def test_without_recordings_as_a_system_the_other_rows_are_the_same(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TWO, "--metrics", "mcd", "--out"]
    assert main([*command, str(tmp_path / "with")]) == 0
    assert main([*command, str(tmp_path / "without"), "--no_recordings"]) == 0
    rows, others = (read_rows(tmp_path / name / "rows.jsonl") for name in ("with", "without"))
    assert {row.system for row in rows} == {"recorded", "teacher", "untrained", "student"}
    assert [row for row in rows if row.system != "recorded"] == others
    assert any(row.metrics["mcd"] is not None for row in others)
    table = json.loads((tmp_path / "without/table.json").read_text())
    assert [line["title"] for line in table["parts"][0]["lines"]] == [
        "teacher",
        "untrained",
        "student",
        "untrained - teacher",
        "student - teacher",
        "student: % of untrained won back",
    ]

    capsys.readouterr()
    for folder, changed in (("with", ["--no_recordings"]), ("without", [])):
        assert main([*command, str(tmp_path / folder), *changed]) == 2
        assert "has another study: its system recorded is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs/none"], "no checkpoint at runs/none"),
        (["runs/quickstart", "--sentences", "0"], "--sentences 0"),
        (["runs/quickstart", "--seeds", "1", "1"], "--seeds 1 1: give each seed once"),
        (["runs/quickstart", "--seeds", "3000000000"], "--seeds 3000000000 is outside [0, 2147483647]"),
        (["lonely.ckpt"], "lonely.ckpt is in no run folder: give --out, the folder for the results"),
        (["runs/quickstart", "--shard", "3/2"], "--shard 3/2: the tasks are 1/2 to 2/2"),
        (["runs/quickstart", "--list", "no.lst"], "no.lst cannot be read"),
        (["runs/quickstart", "--list", "no.lst", "--config", "quickstart"], "both choose the sentences"),
        (["runs/quickstart", "--students_only", "--windows", "4"], "--windows needs the teacher's weights"),
        (["runs/quickstart", "--metrics", "loudness"], "there is no metric 'loudness': known are duration, early"),
        (["runs/quickstart", "--metrics", "wand.evaluation.metric.measure_all"], "is no subclass of"),
        (["runs/quickstart", "--metrics", "no_package.Loudness"], "cannot be imported"),
        (["runs/quickstart", "--metrics", "..x.y"], "cannot be imported"),
        (["runs/quickstart", "--metrics", "loop:3"], "metric 'loop:3' cannot be made"),
        (["runs/quickstart", "--recogniser", "embedded", "embedded"], "two recognisers have the same name"),
        (["runs/quickstart", "runs/quickstart"], "have the same path"),
    ],
)
def test_what_cannot_be_evaluated_gets_one_line(
    run: Workplace, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("runs/quickstart/checkpoints/best.ckpt", "lonely.ckpt")
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
    assert not Path("runs/quickstart/evaluation").exists()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a"], ["student"]),
        (["runs/a", "runs/b/"], ["a", "b"]),
        (["a/export", "b/export"], ["a-export", "b-export"]),
        (["runs/a/checkpoints/best.ckpt", "runs/a/checkpoints/last.ckpt"], ["best", "last"]),
        (["runs/teacher", "runs/v1.2"], ["runs-teacher", "runs-v1.2"]),
    ],
)
def test_students_are_named_by_what_tells_them_apart(paths: list[str], names: list[str]) -> None:
    assert student_names(paths) == names
