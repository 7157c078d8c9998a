"""Work that processes share, also on several machines with a common file system: each piece is done under a lock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from wand.console.interrupt import raise_if_stopped

T = TypeVar("T")
# Seconds between two looks at the locks of other processes.
PAUSE = 0.5


@dataclass(frozen=True)
class Task:
    """One of several tasks that share the work: the second of eight makes the shards 2, 10, 18, ...

    The choice does not depend on what is done already, so that a task that has failed is repeated alone.

    Args:
        number: The task, counted from 1.
        count: Number of tasks.

    Raises:
        ValueError: If there is no such task.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"--shard {self}: the tasks are 1/{self.count} to {self.count}/{self.count}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Task:
        """Read ``2/8``, the second of eight tasks."""
        match = re.fullmatch(r"(\d+)/([1-9]\d*)", text, re.ASCII)
        if match is None:
            raise ValueError(f"--shard {text}: write the task and the number of tasks, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    def own(self, shards: Sequence[T]) -> Sequence[T]:
        """Those of all shards that this task makes."""
        return shards[self.number - 1 :: self.count]

    def that_makes(self, place: int) -> Task:
        """The task that makes a shard, by its place among all shards, counted from 0."""
        return Task(place % self.count + 1, self.count)


ALL = Task()


def take_turns(work: Mapping[Path, Callable[[], None]], waiting: str) -> None:
    """Do pieces of work, each while this process holds its lock. What other processes work on comes last.

    The system frees the lock of a process that has ended. Then the piece is done here, so a piece must begin with a
    look at what the other process has finished. The files of the locks are removed.

    Args:
        work: A function for the file of each lock.
        waiting: What to print, once, when other processes hold all locks that are left.

    Raises:
        Interrupted: If a signal comes while this process waits.
    """
    told = False
    left = dict(work)
    while left:
        busy = {lock: piece for lock, piece in left.items() if not _done(lock, piece)}
        if len(busy) == len(left):
            if not told:
                print(waiting, flush=True)
            told = True
            raise_if_stopped()
            time.sleep(PAUSE)
        left = busy


def _done(file: Path, piece: Callable[[], None]) -> bool:
    with _lock_if_free(file) as free:
        if free:
            piece()
            file.unlink(missing_ok=True)
        return free


@contextmanager
def _lock_if_free(file: Path) -> Iterator[bool]:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
