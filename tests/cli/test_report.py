"""`wand report` on a run of `wand fit`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.workplace import Workplace
from wand.alignment.record import write_record
from wand.cli import main
from wand.metrics.words import errors
from wand.model.alignment import AlignmentHead
from wand.speech.synthesizer import load

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
    heard = spoken["transcripts"]["split"]
    assert (heard["wrong_letters"], heard["letters"]) == errors(heard["heard"], "yes.")[:2]
    assert "alignment heads" in spoken["missing"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "One long text" in page
    assert f"({heard['wrong_letters']} of 3 letters wrong, CER " in page
    assert (tmp_path / "out" / "sounds" / "1-long-0-sentence-by-sentence.flac").is_file()


def test_a_student_that_follows_its_text_speaks_a_passage_too(run: Workplace, tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    student = load(tmp_path / "run").backbone
    student.alignment_heads = (AlignmentHead(1, 1),)
    write_record(tmp_path / "run", student, {})
    (tmp_path / "long.txt").write_text("yes. no.\n")
    assert main(["report", str(tmp_path / "run"), "--long_text", str(tmp_path / "long.txt")]) == 0
    spoken = json.loads((tmp_path / "run" / "evaluation" / "long" / "long.json").read_text())
    assert spoken["sounds"] == {"passage": "passage.flac", "split": "split.flac"}
    assert [*spoken["transcripts"]] == ["passage", "split"]
    assert (spoken["missing"], spoken["recogniser"]) == (None, "embedded")
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    for i, way in enumerate(("in-one-continuous-decode", "sentence-by-sentence")):
        for place in (f"sounds/1-long-{i}-{way}.flac", f"pictures/1-long-{i}-{way}.png"):
            assert f'src="{place}"' in page
            assert (tmp_path / "run" / "report" / place).is_file()


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
