"""Lines of progress in a log, from the command line."""

from __future__ import annotations

import re

import pytest

from tests.workplace import Workplace

LINES = ("--trainer.enable_progress_bar=true", "--trainer.max_steps=3")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line at every step."""
    monkeypatch.setattr("wand.console.progress.FIRST_LINE", 0.0)
    monkeypatch.setattr("wand.console.progress.LONGEST_PAUSE", 0.0)


@pytest.mark.usefixtures("impatient")
def test_every_phase_of_a_fit_prints_lines(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAND_CACHE", str(workplace.folder / "cache"))  # speech is not there yet
    workplace.run("fit", "--config", "quickstart", *workplace.fit, *LINES, "--trainer.val_check_interval=1")
    printed = capsys.readouterr().out.splitlines()
    left, so_far = r"\d:\d\d:\d\d left", r"\d:\d\d:\d\d so far"  # one step is too little for an estimate
    phases = {
        rf"preparing speech: 2 of \d+ utterances, {left}": 1,
        rf"fit: [23] of 3 steps, loss \d+(\.\d+)?(e-\d+)?, window \d+, {left}": 2,
        r"fit: finished after .*": 1,
        rf"validation: 1 of 1 batches, {so_far}": 3,
        rf"validation, teacher speaks: 3 of 3 sentences, {left}": 1,
        rf"validation, student speaks: 3 of 3 sentences, {left}": 3,
        rf"test, recorded speech: 1 of 1 batches, {so_far}": 1,
        rf"timing steps: 1 of \d lengths, {so_far}": 1,
        rf"speaking: 9 of 9 sentences, student, {left}": 1,
    }
    for pattern, least in phases.items():
        assert sum(bool(re.fullmatch(pattern, line)) for line in printed) >= least, (pattern, printed)


@pytest.mark.usefixtures("impatient")
def test_who_wants_no_bar_gets_no_lines(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    run.run("validate", "--ckpt_path=runs/quickstart", "--trainer.enable_progress_bar=false")
    assert "validation:" not in capsys.readouterr().out
