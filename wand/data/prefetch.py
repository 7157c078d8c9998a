"""Makes the next batches in a thread during a training step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(make: Callable[[Item], Made], items: Iterable[Item], ahead: int) -> Iterator[Made]:
    """``map(make, items)`` in a thread that runs some items ahead of the caller.

    A thread is enough: a batch takes a few milliseconds, and a training step leaves the interpreter free while its
    kernels run. Worker processes would have to send every tensor back through shared memory, which containers limit.

    Args:
        make: The function. It runs in one other thread, on the items in order.
        items: The arguments of `make`.
        ahead: Number of results that are made in advance.

    Raises:
        Exception: An exception of `make` is raised when the caller takes that result.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wand-prefetch")
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(thread.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
