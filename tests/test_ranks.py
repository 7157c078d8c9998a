"""Processes decide together and wait for each other, also when one is slow, stopped, wrong or gone."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import torch

from tests.processes import as_torchrun, end, start
from wand import ranks
from wand.console.interrupt import Interrupted, handling_signals, raise_if_stopped, stop_only_together

# Seconds: the time-out of a collective, and a longer time in which one process works alone.
TIME_OUT, WORK = 4.0, 6.0


def work(rank: int, folder: Path) -> None:
    """What one of two processes sees; it writes it into a file."""
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=TIME_OUT))
    ranks.BEAT, ranks.LOST_AFTER = 0.2, 2.0
    seen: dict[str, object] = {}
    with handling_signals():
        stop_only_together(True)
        with ranks.apart("working longer than a collective may take"):
            time.sleep(WORK if rank == 0 else 0)
        seen["values"] = ranks.gather(rank)
        seen["first"] = ranks.first_decides(f"of {rank}")
        try:
            with ranks.apart("failing"):
                if rank == 1:
                    raise ValueError("no space left")
                wait_for_the_other()
        except ValueError as error:
            seen["fault"] = str(error)
        try:
            with ranks.apart("being stopped"):
                if rank == 1:
                    os.kill(os.getpid(), signal.SIGTERM)  # and it has nothing to do
                else:
                    wait_for_the_other()
        except Interrupted as stopped:
            seen["stopped"] = stopped.number
        try:
            with ranks.apart("dying"):
                if rank == 1:
                    (folder / "1.json").write_text(json.dumps(seen))
                    os.kill(os.getpid(), signal.SIGKILL)
        except ranks.RankLost as lost:
            seen["lost in a block"] = lost.ranks
    ranks.ANSWER = 0.2
    try:
        with ranks.naming_lost_ranks():
            ranks.gather(rank)
    except ranks.RankLost as lost:
        seen["lost in a collective"] = str(lost)
    (folder / "0.json").write_text(json.dumps(seen))


def wait_for_the_other() -> None:
    """Work for ever; only what the other process says ends it."""
    while True:
        raise_if_stopped()
        time.sleep(0.01)


def test_two_processes(tmp_path: Path) -> None:
    statuses = end(start(work, (tmp_path,), as_torchrun(), tmp_path))
    assert statuses == [0, -signal.SIGKILL], [file.read_text() for file in tmp_path.glob("*.txt")]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for seen in (first, second):
        assert seen["values"] == [0, 1]
        assert seen["first"] == "of 0"
        assert seen["stopped"] == signal.SIGTERM
    assert first["fault"] == "process 1: no space left"
    assert second["fault"] == "no space left"
    assert first["lost in a block"] == [1]
    assert first["lost in a collective"] == "process 1 of 2 (counted from 0) was lost: its own output says why"


def test_one_process_decides_alone() -> None:
    assert ranks.rank_and_world() == (0, 1)
    assert ranks.is_first()
    assert ranks.gather("own") == ["own"]
    assert ranks.first_decides("own") == "own"
    with ranks.apart("working"):
        pass
