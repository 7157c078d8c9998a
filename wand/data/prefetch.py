"""Batches are made while the last one is trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(make: Callable[[Item], Made], items: Iterable[Item], ahead: int) -> Iterator[Made]:
    """``map(make, items)``, made in a thread, some items ahead of the caller.

    A thread is enough: a batch takes a few milliseconds, and a training step leaves the interpreter free while its
    kernels run. Worker processes would have to send every tensor back through shared memory, which containers limit.

    Args:
        make: Makes one item; runs in one other thread, in order.
        items: What to make them of.
        ahead: How many are made before the caller asks for them.

    Raises:
        Exception: What `make` raised, when its item is asked for.
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
