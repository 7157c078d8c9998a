"""Processes decide together and wait for each other, also when one is slow, stopped, wrong or gone."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
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


def arrive_and_die(rank: int, folder: Path) -> None:
    """Rank 1 is killed while it waits for rank 0 at the end of a block; then rank 0 arrives."""
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=TIME_OUT))
    ranks.BEAT, ranks.LOST_AFTER = 0.2, 2.0
    if rank == 1:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    try:
        with ranks.apart("working"):
            time.sleep(1.0 if rank == 0 else 0)
    except ranks.RankLost as lost:
        (folder / "lost.json").write_text(json.dumps(lost.ranks))


def test_a_process_that_dies_at_the_end_of_a_block_is_lost(tmp_path: Path) -> None:
    statuses = end(start(arrive_and_die, (tmp_path,), as_torchrun(), tmp_path))
    assert statuses == [0, -signal.SIGKILL], [file.read_text() for file in tmp_path.glob("*.txt")]
    assert json.loads((tmp_path / "lost.json").read_text()) == [1]


def test_the_limit_of_a_silent_process_is_looked_at_between_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []
    looked = threading.Event()

    class Limit:
        def __init__(self, seconds: float) -> None:
            assert seconds == ranks.LOST_AFTER

        def left(self) -> float:
            looks.append(None)
            if len(looks) == 3:
                looked.set()
            return 1.0

    store = torch.distributed.HashStore()
    monkeypatch.setattr(ranks, "BEAT", 3600.0)
    monkeypatch.setattr(ranks, "Deadline", Limit)
    monkeypatch.setattr(ranks, "default_store", lambda: store)
    monkeypatch.setattr(ranks, "rank_and_world", lambda: (0, 2))
    block = ranks._Block("working")
    block.start()
    try:
        assert looked.wait(60)
    finally:
        block.end()


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
