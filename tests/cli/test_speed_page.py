"""What docs/speed.md shows runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.workplace import Workplace
from wand.attention import AttentionWindow
from wand.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "speed.md").read_text()


def test_speech_comes_in_parts(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(snippet, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert all(line.endswith("None") for line in lines[:-1])
    assert not lines[-1].endswith("None")


def test_the_benchmark_of_a_run(run: Workplace, tmp_path: Path) -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    (command,) = block.splitlines()
    small = ["--batch", "1", "--repeats", "2", "--out", str(tmp_path)]
    assert main([*shlex.split(command, comments=True)[1:], *small]) == 0
    assert (tmp_path / "latency.png").stat().st_size > 5000


def test_hard_windows_throughout(workplace: Workplace) -> None:
    (flags,) = re.findall(r"`(--curriculum\.schedule\.tau_start\s+10)`", PAGE)
    from wand.cli.training import main as run_training

    options = ["--trainer.max_steps=1", "--recogniser=null", "--checkpoint.monitor=val/agreement"]
    options += ["--checkpoint.mode=max", *flags.split()]
    cli = run_training("fit", ["--config", "quickstart", *workplace.fit, *options])
    schedule = cli.config_init.fit.curriculum.schedule
    assert all(schedule.at(step, 100, AttentionWindow(8)).tau is None for step in range(100))
