"""Several processes of one run. A fork server imports wand once and forks them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from wand.cli import main

# Seconds after which processes that wait for each other for ever are ended.
LIMIT = 300.0
# What every process needs, so that the fork server imports it once.
PRELOAD = ["wand.cli.training", "wand.backbones.encodec_lm", "tests.training.accumulated", __name__]


def free_port() -> int:
    """A port that nothing listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def as_torchrun(world: int = 2) -> list[dict[str, str]]:
    """The variables that torchrun sets in the processes of one machine."""
    shared = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def as_nodes(world: int = 2) -> list[dict[str, str]]:
    """The variables that a user sets on several machines with one process each."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [{**shared, "NODE_RANK": str(rank)} for rank in range(world)]


def start(
    work: Callable[..., int | None], arguments: Sequence[Any], variables: Sequence[Mapping[str, str]], log: Path
) -> list[BaseProcess]:
    """Start ``work(rank, *arguments)`` once for every set of variables. The output of rank r goes to ``log/r.txt``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    ready = context.Process(target=bool)  # so that the imports of a new server do not count towards `LIMIT`
    ready.start()
    ready.join()
    log.mkdir(parents=True, exist_ok=True)
    common = {name: os.environ[name] for name in ("WAND_CACHE", "WAND_STATE") if name in os.environ}
    processes = [
        context.Process(target=_run, args=(work, rank, arguments, {**common, **own}, Path.cwd(), log / f"{rank}.txt"))
        for rank, own in enumerate(variables)
    ]
    for process in processes:
        process.start()
    return processes


def command(rank: int, arguments: Sequence[str]) -> int:
    """The work of a process that runs a command of wand."""
    return main(arguments)


def end(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Wait for the end of processes. Returns their exit statuses; -9 for one that had to be killed after `LIMIT`."""
    latest = time.monotonic() + LIMIT
    for process in processes:
        process.join(max(0.0, latest - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _run(
    work: Callable[..., int | None],
    rank: int,
    arguments: Sequence[Any],
    variables: dict[str, str],
    folder: Path,
    log: Path,
) -> None:
    torch.set_num_threads(1)
    os.environ |= variables
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status: int | None = 1
    try:
        status = work(rank, *arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
