"""`wand report` on a run of `wand fit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workplace import Workplace
from wand.cli import main

RUN = Path("runs/quickstart")


def test_a_run_becomes_a_page(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "last"]) == 0
    assert f"The report is in {RUN}/report/index.html" in capsys.readouterr().out
    page = (RUN / "report" / "index.html").read_text()
    assert "EncodecLM" in page
    assert "<polyline" in page
    assert any((RUN / "report" / "sounds").iterdir())


def test_the_student_speaks_a_long_text(run: Workplace, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("yes.\n")
    assert main(["report", str(RUN), "--long_text", str(tmp_path / "long.txt"), "--out", str(tmp_path / "out")]) == 0
    spoken = json.loads((RUN / "evaluation" / "long" / "long.json").read_text())
    assert spoken["text"] == "yes."
    assert spoken["sounds"] == {"split": "split.flac"}
    assert "alignment heads" in spoken["missing"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "One long text" in page
    assert (tmp_path / "out" / "sounds" / "1-long-0-sentence-by-sentence.flac").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: RUN_OR_STUDY"),
        (["nowhere"], "no folder at nowhere"),
        ([str(RUN), "--long_text", "nowhere.txt"], "nowhere.txt"),
        ([str(RUN), "--out", "runs"], "other files than a report"),
    ],
)
def test_errors_take_one_line(
    run: Workplace, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
