"""Signals are noted, a second one ends at once, ignored ones stay ignored, and handlers are restored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from wand.console.interrupt import (
    SIGNALS,
    Interrupted,
    children_without_signals,
    handling_signals,
    raise_if_stopped,
    stop_only_together,
    stop_requested,
)
from wand.console.progress import progress

WAITS = """
import signal, sys, time
from wand.console.interrupt import handling_signals, raise_if_stopped, Interrupted
with handling_signals():
    print("ready", flush=True)
    for _ in range(2000):
        time.sleep(0.01)
        if sys.argv[1] == "polls":
            try:
                raise_if_stopped()
            except Interrupted as stopped:
                sys.exit(stopped.status)
"""


def waiting(kind: str, *before: str) -> subprocess.Popen[str]:
    """A process that handles signals; it looks for them if `kind` is `polls`."""
    command = [*before, sys.executable, "-c", WAITS, kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_only_sets_a_flag_and_is_raised_where_a_loop_asks(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in SIGNALS}
    with handling_signals():
        raise_if_stopped()
        os.kill(os.getpid(), number)
        assert stop_requested() == number
        with pytest.raises(Interrupted) as stopped:
            raise_if_stopped()
        assert stopped.value.status == 128 + number
        assert not isinstance(stopped.value, Exception), "nothing that skips failed items may catch it"
    assert {one: signal.getsignal(one) for one in SIGNALS} == before
    raise_if_stopped()  # a later command starts without the signal of an earlier one


def test_every_counted_step_can_stop() -> None:
    with handling_signals(), progress("counting", 3, "things", shown=False) as counted:
        counted.advance()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            counted.advance()


def test_several_processes_do_not_stop_alone() -> None:
    with handling_signals():
        stop_only_together(True)
        os.kill(os.getpid(), signal.SIGTERM)
        raise_if_stopped()
        assert stop_requested() == signal.SIGTERM


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handling_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop_requested() == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nohup_goes_on_after_the_terminal_has_gone() -> None:
    process = waiting("polls", "nohup")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM


def test_a_second_signal_ends_at_once() -> None:
    process = waiting("never looks")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first signal is only noted"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 128 + signal.SIGTERM


def test_importing_wand_installs_nothing() -> None:
    code = (
        "import signal; before = [signal.getsignal(n) for n in range(1, 32) if n not in (9, 19)]; import wand; "
        "import wand.cli; assert before == [signal.getsignal(n) for n in range(1, 32) if n not in (9, 19)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_child_processes_leave_signals_to_their_parent() -> None:
    with children_without_signals():
        child = subprocess.Popen(["sleep", "20"])
    for number in set(SIGNALS) - {signal.SIGTERM}:
        child.send_signal(number)  # as Ctrl-C does for every process of a terminal
    time.sleep(0.2)
    assert child.poll() is None
    child.terminate()
    assert child.wait(5) == -signal.SIGTERM
