"""Two processes on one machine (gloo) train as one does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.processes import end, start
from tests.workplace import Workplace
from wand.cli import main

PROGRAM = Path(__file__).parents[2] / "wand" / "cli" / "__main__.py"


def typed(rank: int, arguments: list[str]) -> int:
    """A command that knows how it was called, so that Lightning can start it once more for each further device."""
    sys.argv = [str(PROGRAM), *arguments]
    return main(arguments)


def fit(workplace: Workplace, name: str, *options: str) -> EventAccumulator:
    arguments = ["fit", "--config", "quickstart", *workplace.fit, "--name", name, "--trainer.max_steps=4"]
    # In full precision: bfloat16 would round the same batch differently in two halves.
    exact = ["--trainer.log_every_n_steps=1", "--trainer.precision=32-true"]
    log = Path("logs") / name
    statuses = end(start(typed, ([*arguments, *exact, *options],), [{"OMP_NUM_THREADS": "1"}], log))
    assert statuses == [0], (log / "0.txt").read_text()
    events = EventAccumulator(str(workplace.folder / "runs" / name), size_guidance={"images": 100, "audio": 100})
    events.Reload()
    return events


def test_two_processes_equal_one_on_the_same_batches(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAND_CACHE", str(workplace.folder / "cache"))
    two = fit(workplace, "two", "--data.batch_size=2", "--trainer.devices=2", "--trainer.strategy=ddp")
    one = fit(workplace, "one", "--data.batch_size=4")
    for tag in ("train/loss", "train/ce", "train/kd", "train/agreement", "val/agreement", "val/kl", "test/student/ce"):
        alone, together = one.Scalars(tag), two.Scalars(tag)
        assert [event.step for event in together] == [event.step for event in alone], tag
        assert [event.value for event in together] == pytest.approx(
            [event.value for event in alone], rel=2e-4, abs=1e-6
        ), tag
    # Logging, pictures, sound, caching: once.
    for kind in ("images", "audio"):
        assert one.Tags()[kind] == two.Tags()[kind]
    assert len(two.Images("schedule")) == 1
    assert len(two.Audio("teacher/0")) == 1
    assert sorted(path.name for path in (workplace.folder / "runs").iterdir()) == ["one", "two"]
    # Besides the digests of the files of the corpus.
    assert len([path for path in Path("cache").iterdir() if path.name != "contents"]) == 1
