"""Signals: a command stops at the next safe point, and what it has finished is kept.

The handlers only note the signal. Loops ask for it with `raise_if_stopped` where they can stop. The `wand` command
installs the handlers for the time of one command; `import wand` installs none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
# A shell and the kernel may both report the end of a terminal: signals this close together, in seconds, are one.
SAME_SIGNAL = 0.1


class Interrupted(BaseException):
    """A signal has asked for the end of the command. No ``except Exception`` catches it.

    Args:
        number: The signal.
        report: What is kept, and how to go on.

    Attributes:
        shown: Whether this process prints the report. Of several processes, the first does.
    """

    def __init__(self, number: int, report: str = "") -> None:
        self.number = signal.Signals(number)
        self.report = report
        self.shown = True
        super().__init__(f"stopped by {self.number.name}")

    @property
    def status(self) -> int:
        """Exit status of a command that this signal has stopped."""
        return 128 + self.number


class _Received:
    """The signal that was received, if any, and what other processes of the run ask for."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.when = 0.0
        self.asked: int | None = None
        self.error: Exception | None = None
        self.only_together = False
        self.terminals: tuple[int, ...] = ()


_received = _Received()


@contextlib.contextmanager
def handling_signals() -> Iterator[None]:
    """Note signals inside the ``with`` block. A second signal ends the process at once.

    A signal that is ignored already (SIGHUP under ``nohup``) stays ignored. The handlers from before are restored at
    the end. In a thread other than the main one, nothing is installed, because Python does not allow it.
    """
    global _received
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received = _Received()
    _received.terminals = tuple(fd for fd in (1, 2) if _is_terminal(fd))
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in handled:
        signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _received = _Received()


def stop_requested() -> int:
    """The signal that asks for the end: of this process, or else of another process of the run; 0 if none."""
    return _received.number or _received.asked or 0


def raise_if_stopped() -> None:
    """Stop here if a signal was received. Loops call it where nothing is half done.

    Several processes must stop at the same step, so after `stop_only_together` this does nothing.

    Raises:
        Interrupted: If a signal was received.
    """
    if _received.only_together:
        return
    if _received.error is not None:
        raise _received.error
    if number := stop_requested():
        raise Interrupted(number)


def stop_only_together(several_processes: bool) -> None:
    """Say whether several processes work together. They agree on `stop_requested` at steps that all of them reach."""
    _received.only_together = several_processes


@contextlib.contextmanager
def stopping_alone() -> Iterator[None]:
    """Let `raise_if_stopped` stop one of several processes inside the ``with`` block."""
    before, _received.only_together = _received.only_together, False
    try:
        yield
    finally:
        _received.only_together = before


def ask_to_stop(number: int) -> None:
    """Pass on the signal of another process. It does not count as the first of two signals."""
    _received.asked = number


def end_with(error: Exception | None) -> None:
    """Let `raise_if_stopped` raise an error from now on, or no more."""
    _received.error = error


@contextlib.contextmanager
def children_without_signals() -> Iterator[None]:
    """Start child processes inside the ``with`` block that leave these signals to this process.

    Ctrl-C reaches every process of a terminal. A helper process that it killed would look like a failure. SIGTERM is
    sent to one process, so it is not blocked: it ends helper processes.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    blocked = {number for number in SIGNALS if number != signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _received.number is not None:
        if now - _received.when > SAME_SIGNAL:
            os._exit(128 + number)
        return
    _received.number, _received.when = number, now
    if number == getattr(signal, "SIGHUP", None):
        _leave_terminal()
    with contextlib.suppress(OSError):
        name = signal.Signals(number).name
        os.write(2, f"\nwand: {name}: stops at the next safe point; a second signal ends at once\n".encode())


def _leave_terminal() -> None:
    """Write no more to a terminal that is gone: every write to it would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for fd in _received.terminals:
        os.dup2(nowhere, fd)
    os.close(nowhere)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def report(stopped: Interrupted) -> None:
    """Print what is kept and how to go on, on standard error, unless another process does."""
    if not stopped.shown:
        return
    with contextlib.suppress(OSError):
        print(f"wand: {stopped}: {stopped.report or 'the same command starts again'}", file=sys.stderr, flush=True)
