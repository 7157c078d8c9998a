"""Groups of seeded cases, and what comes of each case."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

LIMIT = 10.0  # seconds that a case may take

RIGHT, WRONGLY_REFUSED, REFUSED, BAD = "valid and right", "valid but refused", "invalid and refused in one line", "bad"
OUTCOMES = (RIGHT, WRONGLY_REFUSED, REFUSED, BAD)


@dataclass(frozen=True)
class Case:
    """One case.

    Args:
        what: What is tried, in words.
        act: Does it.
        check: Raises AssertionError if the result of `act` is not right. Unused by invalid cases.
        names: Words that the message of an invalid case must contain; the case is valid without them.
    """

    what: str
    act: Callable[[], object]
    check: Callable[[object], None] = lambda result: None
    names: tuple[str, ...] | None = None


class Group(ABC):
    """A kind of input. What its cases share, such as a tiny model, is made once.

    Args:
        folder: An empty folder for the files of the cases.
    """

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def valid(self, random: random.Random) -> Case:
        """A case that must work."""

    @abstractmethod
    def invalid(self, random: random.Random) -> Case:
        """A case that must be refused in one line."""

    def case(self, seed: int, index: int) -> Case:
        """The case of a number. It depends on nothing else: valid if the number is even."""
        source = random.Random(f"{seed}/{self.name}/{index}")
        return self.invalid(source) if index % 2 else self.valid(source)


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        index: Its number.
        kind: One of `OUTCOMES`.
        what: What was tried.
        detail: What went wrong; empty if nothing did.
    """

    index: int
    kind: str
    what: str
    detail: str = ""


class Hang(BaseException):
    """The time of a case is over. Not an Exception, so that nothing catches it."""


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_case(group: Group, seed: int, index: int) -> Outcome:
    """Run one case, in a folder of its own, within the time limit."""
    here = Path.cwd()
    begin = time.monotonic()
    what = "the case cannot be made"
    with TemporaryDirectory(dir=group.folder) as own:
        os.chdir(own)
        try:
            with _time_limit(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                case = group.case(seed, index)
                what = case.what
                kind, detail = _judged(case)
        except Hang:
            kind, detail = BAD, f"not finished after {LIMIT:g} s"
        except BaseException as error:
            kind, detail = BAD, _where(error)
        finally:
            os.chdir(here)
    if time.monotonic() - begin > LIMIT and kind != BAD:
        kind, detail = BAD, f"took {time.monotonic() - begin:.0f} s"
    return Outcome(index, kind, what, detail)


def _judged(case: Case) -> tuple[str, str]:
    try:
        result = case.act()
    except ValueError as error:
        message = str(error)
        if type(error) is UnicodeDecodeError or "\n" in message.strip():
            return BAD, f"not one clear line: {message!r}"
        if case.names is None:
            return WRONGLY_REFUSED, f"{message} {_where(error)}"
        # A zero byte is printed as Python writes it.
        missing = [name for name in case.names if name.lower().replace("\0", "\\x00") not in message.lower()]
        return (BAD, f"the line does not name {missing[0]!r}: {message}") if missing else (REFUSED, "")
    if case.names is not None:
        return BAD, f"silently accepted: {result!r}"[:300]
    case.check(result)
    return RIGHT, ""


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})".replace("\n", " ")[:400]
