"""The processes of a run: what they decide together, and how they wait for each other.

Every process has a rank. A collective of torch.distributed ends with an error when a process comes too late. So where
the processes work for unequal times, they work in a block of `apart`, at whose end they wait for each other without a
limit. Nothing else that only one process does comes between two collectives.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, TypeVar

import torch.distributed
from torch.distributed import PrefixStore, Store

from wand.console.interrupt import Interrupted, ask_to_stop, end_with, stop_requested, stopping_alone
from wand.console.progress import progress
from wand.deadline import Deadline

T = TypeVar("T")
# Seconds between two signs of life of a process.
BEAT = 5.0
# A process without a sign of life for this number of seconds is lost.
LOST_AFTER = 300.0
# Seconds that the processes have to answer when a connection is broken.
ANSWER = 10.0
# What torch.distributed says when a connection is broken. Its error is often a plain RuntimeError.
BROKEN = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Timed out waiting",
    "imeout caused pair closure",
    "NCCL communicator was aborted",
    "remote process has terminated",
)
_blocks = count()


class RankLost(ConnectionError):
    """Other processes of the run have ended, or their machine has."""

    def __init__(self, ranks: list[int]) -> None:
        self.ranks = ranks
        which = f"process {ranks[0]}" if len(ranks) == 1 else f"processes {', '.join(map(str, ranks))}"
        super().__init__(f"{which} of {rank_and_world()[1]} (counted from 0) was lost: its own output says why")


def rank_and_world() -> tuple[int, int]:
    """Rank of this process, and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def is_first() -> bool:
    """Whether this is the process with rank 0."""
    return rank_and_world()[0] == 0


def gather(own: T) -> list[T]:
    """The values of all processes, by rank. All must call it at about the same time."""
    _, world = rank_and_world()
    if world == 1:
        return [own]
    values: list[Any] = [None] * world
    torch.distributed.all_gather_object(values, own)
    return values


def first_decides(value: T) -> T:
    """The value of rank 0, in every process. All must call it at about the same time."""
    if rank_and_world()[1] == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def apart(doing: str) -> Iterator[None]:
    """Let every process work alone inside the ``with`` block, for any time; at its end all wait for each other.

    Inside, there may be no collective. All processes must enter the block, also those that have nothing to do. A signal
    to one of them ends the block in all, as soon as each calls `raise_if_stopped`. So does an error in one of them, and
    the end of a process.

    Args:
        doing: What the processes do, for the line of one that waits.

    Raises:
        Interrupted: In all processes, if one of them has stopped at a signal.
        ValueError: If another process has failed; the message has its error.
        RankLost: If another process has ended.
    """
    if rank_and_world()[1] == 1:
        yield
        return
    block = _Block(doing)
    block.start()
    stopped = None
    try:
        with stopping_alone():
            try:
                yield
            except Interrupted as own:
                stopped = own
        try:
            number = block.wait()
        except RuntimeError as error:  # the store is in the process of rank 0, or of a launcher
            raise RankLost([0]) from error
    except Exception as error:
        block.fail(error)
        raise
    finally:
        block.end()
    if number:
        stopped = stopped or Interrupted(number)
        stopped.number = signal.Signals(number)
        raise stopped


class _Block(threading.Thread):
    """One block of `apart`. A thread gives signs of life and listens to the other processes.

    Keys in the store: ``arrived`` counts the processes at the end of the block, also those that are lost there.
    ``left/RANK`` says that a process has left the block and gives no more signs of life. ``stop`` is the signal that
    ends the run; only a process that has not arrived may set it, so all that read it after the last arrival agree. A
    process that has arrived sets ``hurry`` instead, which asks the others to stop. ``fault`` is an error, ``lost`` a
    rank.
    """

    def __init__(self, doing: str) -> None:
        super().__init__(daemon=True, name="wand-apart")
        self.doing = doing
        self.rank, self.world = rank_and_world()
        self._life = PrefixStore("wand/life", default_store())
        self._store = PrefixStore(f"wand/{next(_blocks)}", default_store())
        # Seconds between two looks at the store. Many processes look less often.
        self._pause = min(1.0, 0.02 * self.world)
        self._over = threading.Event()
        self._error: Exception | None = None

    def wait(self) -> int:
        """Arrive at the end of the block, and wait for the others. Returns the signal that ends the run, or 0."""
        if number := stop_requested():
            self._store.set("stop", str(number))
        self._store.add("arrived", 1)
        unit = f"of {self.world} processes are ready"
        hurried = bool(number)
        with progress(f"waiting ({self.doing})", None, unit, shown=self.rank == 0, bar=False) as shown:
            while (there := self._store.add("arrived", 0)) < self.world:
                self._check()
                if not hurried and (late := stop_requested()):
                    self._store.set("hurry", str(late))
                    hurried = True
                shown.update(there)
                time.sleep(self._pause)
        self._check()
        number = self._number("stop")
        self._store.set(f"left/{self.rank}", "")
        while self.rank == 0 and not all(map(self._has_left, range(self.world))):
            self._check()
            time.sleep(self._pause)  # the store may be in this process, which may be about to end
        return number

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _has_left(self, rank: int) -> bool:
        return self._store.check([f"left/{rank}"])

    def fail(self, error: Exception) -> None:
        """Tell the others about an error of this process, and leave them the time to read it."""
        if error is not self._error:
            with suppress(RuntimeError):  # the store is gone
                self._store.set("fault", f"process {self.rank}: {error}")
                time.sleep(5 * self._pause)

    def end(self) -> None:
        """Stop the thread."""
        self._over.set()
        self.join()
        end_with(None)

    def run(self) -> None:
        """Give signs of life, and pass on what the other processes have written."""
        seen: dict[int, tuple[bytes, Deadline]] = {}
        beats, next_beat = 0, 0.0
        try:
            while not self._over.wait(self._pause) and self._error is None:
                for _, limit in seen.values():
                    limit.left()  # of a long time between two looks, only a part counts
                now = time.monotonic()
                if now >= next_beat:
                    next_beat, beats = now + BEAT, beats + 1
                    self._life.set(str(self.rank), f"{now}-{beats}")
                    if self.rank == 0 and (lost := self._silent(seen)) is not None:
                        self._store.set("lost", str(lost))
                self._listen()
        except RuntimeError:  # as in `apart`
            self._raise(RankLost([0]))

    def _listen(self) -> None:
        for name in ("stop", "hurry"):
            if number := self._number(name):
                ask_to_stop(number)
        if self._store.check(["lost"]):
            self._raise(RankLost([self._number("lost")]))
        if self._store.check(["fault"]):
            self._raise(ValueError(self._store.get("fault").decode()))

    def _raise(self, error: Exception) -> None:
        self._error = error
        end_with(error)

    def _number(self, name: str) -> int:
        return int(self._store.get(name)) if self._store.check([name]) else 0

    def _silent(self, seen: dict[int, tuple[bytes, Deadline]]) -> int | None:
        """A process that has given no sign of life for too long."""
        for rank in range(1, self.world):
            sign = self._life.get(str(rank)) if self._life.check([str(rank)]) else b""
            if rank not in seen or seen[rank][0] != sign:
                seen[rank] = (sign, Deadline(LOST_AFTER))
            elif not seen[rank][1].left() and not self._has_left(rank):
                return rank
        return None


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Replace the error of a broken connection by one that names the processes that are lost."""
    try:
        yield
    except RuntimeError as error:
        broken = any(words in str(error) for words in BROKEN)
        if not broken or not (lost := _lost(*rank_and_world())):
            raise
        raise RankLost(lost) from error


def _lost(rank: int, world: int) -> list[int]:
    """The processes that do not answer. Every process that has noticed a broken connection calls this."""
    missing = [other for other in range(world) if other != rank]
    if not missing:
        return []
    try:
        store = PrefixStore("wand/answers", default_store())
        store.set(str(rank), "")
        limit = Deadline(ANSWER)
        while missing and limit.left():
            time.sleep(min(1.0, 0.02 * world))
            missing = [other for other in missing if not store.check([str(other)])]
    except RuntimeError:  # the store has ended with the process of rank 0
        return [0] if 0 in missing else missing
    return missing


def default_store() -> Store:
    """The store that all processes share."""
    return torch.distributed.distributed_c10d._get_default_store()
