import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from wand.deadline import LONGEST_LOOK, Deadline


def test_a_deadline_counts_the_time_between_looks() -> None:
    now = 100.0
    deadline = Deadline(3.0, lambda: now)
    left = []
    for now in (101.0, 102.5, 102.5, 104.0, 105.0):  # noqa: B007 (the clock reads it)
        left.append(deadline.left())
    assert left == [2.0, 0.5, 0.5, 0.0, 0.0]


def test_a_long_time_without_a_look_counts_little() -> None:
    now = 0.0
    deadline = Deadline(10.0, lambda: now)
    now = 3600.0
    assert deadline.left() == 10.0 - LONGEST_LOOK
    now = 3601.0
    assert deadline.left() == 10.0 - LONGEST_LOOK - 1


CHILD = """
import select, sys
from wand.deadline import Deadline
deadline = Deadline(3.5)
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    deadline.left()
print(deadline.left() > 0)
"""


def test_a_process_that_was_stopped_for_longer_than_its_limit_goes_on() -> None:
    folder = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(4.0)
        os.kill(child.pid, signal.SIGCONT)
        assert child.communicate("now\n", timeout=60)[0] == "True\n"
