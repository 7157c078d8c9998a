"""The table of `wand test`, with a metric of the user's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.workplace import Workplace
from wand.cli import main
from wand.evaluation.result_files import read_result

METRICS = '--table.metrics=[{"class_path": "tests.evaluation.extra_metrics.ExtraSeconds", "init_args": {"factor": 10}}]'
SMALL = ("--table.full.windows=[]", "--table.full.student_full=false", "--table.full.pictures=0")


def test_a_metric_from_elsewhere_is_in_the_table(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("runs/quickstart", tmp_path / "runs" / "own")
    run.run("test", f"--ckpt_path={tmp_path}/runs/own", "--trainer.enable_progress_bar=false", METRICS, *SMALL)
    folder = tmp_path / "runs" / "own" / "test"
    takes = [json.loads(line) for line in (folder / "takes.jsonl").read_text().splitlines()]
    for take in takes:
        extra = 10 * (take["seconds"] - take["recorded_seconds"])
        assert take["metrics"] == {"extra_seconds": pytest.approx(extra, abs=1e-3)}
    result = read_result(folder)
    assert [metric.name for metric in result.metrics] == ["extra_seconds"]
    printed, markdown = capsys.readouterr().out, (folder / "table.md").read_text()
    for row in result.rows:
        mean = row.speech.metrics["extra_seconds"]
        cell = f"{mean.mean:.3f} [{mean.interval[0]:.3f}, {mean.interval[1]:.3f}]"
        assert any(cell in line and row.system.name in line for line in printed.splitlines())
        assert any(cell in line and f"| {row.system.name} |" in line for line in markdown.splitlines())
    assert "extra s: seconds spoken beyond the recording, times a factor" in printed
    assert "extra s: seconds spoken beyond the recording, times a factor" in markdown


def test_metrics_without_a_recogniser_are_refused(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path=runs/quickstart", "--recogniser=null", METRICS, *SMALL]) == 2
    error = capsys.readouterr().err
    assert "table.metrics extra_seconds need speech" in error
