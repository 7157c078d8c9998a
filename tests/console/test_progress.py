"""Progress in a log: plain lines, few of them, with the right figures."""

from __future__ import annotations

import io
import os
import select
from itertools import pairwise

import pytest

from wand.console.progress import Progress, ProgressLines, has_terminal, progress


class Clock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines(clock: Clock, total: int | None, done: int = 0) -> tuple[ProgressLines, io.StringIO]:
    stream = io.StringIO()
    return ProgressLines("fit", total, "steps", done=done, stream=stream, clock=clock), stream


def test_a_short_phase_prints_nothing(clock: Clock) -> None:
    made, stream = lines(clock, 10)
    for done in range(1, 11):
        clock.now += 0.99
        made.update(done)
    made.finish()
    assert stream.getvalue() == ""


def test_a_line_tells_steps_note_and_time_left(clock: Clock) -> None:
    made, stream = lines(clock, 240)
    clock.now += 12
    made.update(40, "loss 3.5")
    clock.now += 60
    made.finish()
    # 40 steps took 12 seconds, so 200 take 60.
    assert stream.getvalue() == "fit: 40 of 240 steps, loss 3.5, 0:01:00 left\nfit: finished after 0:01:12\n"


def test_steps_of_an_earlier_run_do_not_make_this_one_look_fast(clock: Clock) -> None:
    made, stream = lines(clock, 200, done=100)
    clock.now += 20
    made.update(110)
    assert stream.getvalue() == "fit: 110 of 200 steps, 0:03:00 left\n"


@pytest.mark.parametrize(
    ("total", "done", "told"),
    [(None, 7, "fit: 7 steps"), (9, 0, "fit: 0 of 9 steps"), (1378, 1, "fit: 1 of 1378 steps")],
)
def test_without_a_total_or_two_finished_steps_the_time_so_far_is_told(
    clock: Clock, total: int | None, done: int, told: str
) -> None:
    made, stream = lines(clock, total)
    clock.now += 3725
    made.update(done)
    assert stream.getvalue() == f"{told}, 1:02:05 so far\n"


def test_a_long_phase_prints_a_line_a_minute(clock: Clock) -> None:
    made, stream = lines(clock, 3600 * 5)
    times = []
    for second in range(1, 3601):
        clock.now += 1
        before = stream.tell()
        made.update(second)
        if stream.tell() > before:
            times.append(second)
    pauses = [after - before for before, after in pairwise(times)]
    assert times[0] == 10
    assert min(pauses) == 10
    assert max(pauses) == 60
    assert pauses == sorted(pauses)


def test_a_stream_that_is_no_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wand.console.progress.FIRST_LINE", 0.0)
    stream = io.StringIO()
    with progress("speaking", 4, "sentences", stream=stream) as shown:
        shown.advance()
        shown.advance(2)
        assert shown.done == 3
        shown.update(4, "student")
    printed = stream.getvalue().splitlines()
    assert printed[0].startswith("speaking: 1 of 4 sentences, ")
    assert printed[-2].startswith("speaking: 4 of 4 sentences, student, ")
    assert printed[-1].startswith("speaking: finished after ")


def test_other_processes_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wand.console.progress.FIRST_LINE", 0.0)
    stream = io.StringIO()
    with progress("speaking", 4, "sentences", shown=False, stream=stream) as shown:
        shown.update(2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("total", [4, None])
def test_a_terminal_gets_a_bar(total: int | None) -> None:
    reader, writer = os.openpty()
    with os.fdopen(reader, "rb", buffering=0) as terminal, os.fdopen(writer, "w") as stream:
        assert has_terminal(stream)
        with progress("speaking", total, "sentences", stream=stream) as shown:
            assert type(shown) is Progress
            shown.update(3, "[student]")
        stream.flush()
        pieces = b""
        while select.select([terminal], [], [], 0.5)[0]:  # a terminal gives what it has, piece by piece
            pieces += terminal.read(100_000)
        drawn = pieces.decode()
    assert "speaking" in drawn
    assert ("3/4" if total else "3 sentences") in drawn
    assert "[student]" in drawn


def test_a_second_bar_is_not_drawn() -> None:
    reader, writer = os.openpty()
    with os.fdopen(reader, "rb", buffering=0) as terminal, os.fdopen(writer, "w") as stream:
        with progress("speaking", 4, "sentences", bar=False, stream=stream) as shown:
            shown.update(3)
        print("end", file=stream, flush=True)
        assert terminal.read(1000).decode().strip() == "end"
