"""Progress of a long phase: a bar in a terminal, plain lines in a log.

Rich draws the bar. Without rich, or if the output is not a terminal, a line is printed now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from wand.console.interrupt import raise_if_stopped

# Seconds before the first line, and the largest number of seconds between two lines.
FIRST_LINE = 10.0
LONGEST_PAUSE = 60.0


class Progress:
    """Counts the finished steps of a phase and shows them.

    Args:
        show: Called with the number of finished steps and a note about the current step.
    """

    def __init__(self, show: Callable[[int, str], object]) -> None:
        self.done = 0
        self._show = show

    def advance(self, steps: int = 1) -> None:
        """Count further finished steps."""
        self.update(self.done + steps)

    def update(self, done: int, note: str = "") -> None:
        """Set the number of finished steps. If a signal has asked for the end of the command, it ends here.

        Args:
            done: Number of finished steps.
            note: Name of the current step, or a figure to show.
        """
        self.done = done
        self._show(done, note)
        raise_if_stopped()


class ProgressLines:
    """Prints the progress of one phase: a line after 10 seconds, then another after every further tenth of the time.

    Two lines are at least 10 and at most about 60 seconds apart. A phase of less than 10 seconds prints nothing.

    Args:
        title: Name of the phase.
        total: Number of steps in the phase; None if it is not known.
        unit: Name of the steps, in the plural.
        done: Number of steps that were finished before, as in a resumed run.
        stream: Stream to print to; standard output by default.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        unit: str,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._before = self._done = done
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._next = self._began + FIRST_LINE
        self._printed = False

    @property
    def due(self) -> bool:
        """Whether the next `update` prints a line."""
        return self._clock() >= self._next

    def update(self, done: int, note: str = "") -> None:
        """Print a line if one is due.

        Args:
            done: Number of finished steps.
            note: Text to show after the number.
        """
        self._done = done
        if not self.due:
            return
        now = self._clock()
        elapsed = now - self._began
        self._next = now + min(LONGEST_PAUSE, max(FIRST_LINE, elapsed / 10))
        counted = f"{done} {self.unit}" if self.total is None else f"{done} of {self.total} {self.unit}"
        self._print(", ".join(part for part in (counted, note, self._time(elapsed)) if part))

    def finish(self) -> None:
        """Print how long the phase took, if it has printed a line before."""
        if self._printed:
            self._print(f"finished after {_clock_time(self._clock() - self._began)}")

    def _time(self, elapsed: float) -> str:
        new = self._done - self._before
        if self.total is None or new < 2:  # the first step also waits for what has to start
            return f"{_clock_time(elapsed)} so far"
        return f"{_clock_time(elapsed / new * max(0, self.total - self._done))} left"

    def _print(self, text: str) -> None:
        self._printed = True
        print(f"{self.title}: {text}", file=self._stream or sys.stdout, flush=True)


@contextmanager
def progress(
    title: str,
    total: int | None,
    unit: str,
    *,
    shown: bool = True,
    bar: bool = True,
    stream: TextIO | None = None,
) -> Iterator[Progress]:
    """Show the progress of the phase that runs inside the ``with`` block.

    Args:
        title: Name of the phase.
        total: Number of steps in the phase; None if it is not known.
        unit: Name of the steps, in the plural.
        shown: Whether to show anything. Of several processes, only one should.
        bar: Whether to draw a bar in a terminal. Set it to False while another bar is drawn.
        stream: Stream to print to; standard output by default.
    """
    if not shown or (has_terminal(stream) and not bar):
        yield Progress(lambda done, note: None)
        return
    if has_terminal(stream):
        with _rich_bar(title, total, unit, stream) as drawn:
            yield drawn
        return
    lines = ProgressLines(title, total, unit, stream=stream)
    yield Progress(lines.update)
    lines.finish()


def has_terminal(stream: TextIO | None = None) -> bool:
    """Whether bars can be drawn: rich is installed, and the stream is a terminal or a notebook.

    Args:
        stream: The stream; standard output by default.
    """
    try:
        from rich.console import Console
    except ImportError:
        return False
    console = Console(file=stream or sys.stdout)
    return console.is_terminal or console.is_jupyter


@contextmanager
def _rich_bar(title: str, total: int | None, unit: str, stream: TextIO | None) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    counted = (
        (TextColumn(f"{{task.completed}} {unit}"), TimeElapsedColumn())
        if total is None
        else (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    )
    columns = (TextColumn(f"[bold]{title}"), *counted, TextColumn("{task.fields[note]}", markup=False))
    with Bars(*columns, console=Console(file=stream or sys.stdout), transient=True) as bars:
        task = bars.add_task("", total=total, note="")
        yield Progress(lambda done, note: bars.update(task, completed=done, note=note))


def _clock_time(seconds: float) -> str:
    """``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))
