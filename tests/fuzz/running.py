"""Runs cases in processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import tempfile
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tests.fuzz.groups import GROUPS
from tests.fuzz.harness import Group, Outcome, run_case

CHUNK = 20  # cases that a process takes at once
MEMORY = 12 * 2**30  # bytes that a process may take, so that an endless allocation ends as an error
FOLDER = "WAND_FUZZ"  # variable of the environment: the folder of all files


def enter() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


@lru_cache
def group_of(name: str) -> Group:
    return GROUPS[name](Path(tempfile.mkdtemp(prefix=f"{name}-", dir=os.environ[FOLDER])))


def _run(task: tuple[str, int, range]) -> tuple[str, list[Outcome]]:
    name, seed, indices = task
    return name, [run_case(group_of(name), seed, index) for index in indices]


def outcomes(names: list[str], each: int, seed: int, workers: int) -> Iterator[tuple[str, list[Outcome]]]:
    tasks = [(name, seed, range(i, min(i + CHUNK, each))) for name in names for i in range(0, each, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(workers, initializer=enter) as pool:
        yield from pool.imap(_run, tasks)
