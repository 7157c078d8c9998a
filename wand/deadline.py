"""A time limit that leaves out the time for which the process was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

# Longest time between two looks that counts, in seconds. A longer one means that the process was stopped.
LONGEST_LOOK = 2.0


class Deadline:
    """A time limit for something that may hang.

    A process that was stopped (Ctrl-Z, SIGSTOP, a debugger) could not see an answer, and what it waited for was often
    stopped too. That time does not count: of the time between two looks, at most `LONGEST_LOOK` does.

    Args:
        seconds: The limit.
        clock: A clock in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds
        self._clock = clock
        self._last = clock()

    def left(self) -> float:
        """Seconds that are left, at least 0. Look at least every second."""
        now = self._clock()
        self._left -= min(now - self._last, LONGEST_LOOK)
        self._last = now
        return max(self._left, 0.0)
