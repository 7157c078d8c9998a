"""A child process that answers requests, line by line, within a time limit."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from wand.codecs.base import CodecUnavailable
from wand.codecs.workers.serve import ANSWER
from wand.deadline import Deadline

WORKERS = Path(__file__).parent / "workers"
# Bytes read at once.
CHUNK = 1 << 16
# Longest line that is no answer. A longer one is logged in pieces.
LONGEST_LINE = 1 << 16
# What a log keeps of the beginning and of the end of what a worker printed, in bytes.
LOG_HEAD = 1 << 20
LOG_TAIL = 1 << 18
# Seconds between two looks at whether the process still runs, and for a process to end by itself.
LOOK = 0.5
GOODBYE = 5.0


class WorkerLog:
    """A file with the beginning and the end of what a worker prints.

    Attributes:
        name: Path of the file. It holds the beginning while the worker runs, and the end after `close`.
    """

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="wand-codec-", suffix=".log", delete=False)  # noqa: SIM115
        self.name: str = self._file.name
        self._head = 0
        self._tail = bytearray()
        self._left_out = 0

    def add(self, said: bytes) -> None:
        """Log what was printed."""
        head = said[: LOG_HEAD - self._head]
        self._head += len(head)
        with suppress(OSError):  # a full disk must not stop the codec: the end is kept in memory
            self._file.write(head)
            self._file.flush()
        self._tail += said
        surplus = len(self._tail) - LOG_TAIL
        if surplus > LOG_TAIL:
            self._left_out += surplus
            del self._tail[:surplus]

    def last_words(self) -> str:
        """The last line that is not empty, shortened."""
        lines = re.split("[\r\n]", self._tail[-LONGEST_LINE:].decode(errors="replace"))
        return one_line(next((line for line in reversed(lines) if line.strip()), "it printed nothing"))

    @property
    def printed(self) -> bool:
        """Whether anything was printed."""
        return bool(self._tail.strip())

    def close(self, keep: bool) -> None:
        """Complete the file, or remove it."""
        with suppress(OSError):
            if self._left_out + len(self._tail) > self._head and keep:
                rest = bytes(self._tail[-(self._left_out + len(self._tail) - self._head) :])
                gap = self._left_out + len(self._tail) - self._head - len(rest)
                self._file.write(f"\n... {gap} bytes left out ...\n".encode() * (gap > 0) + rest)
            self._file.close()
        if not keep:
            Path(self.name).unlink(missing_ok=True)


class WorkerProcess:
    """A child process that answers each JSON line with one JSON line. Other output goes to a log, kept after a failure.

    Args:
        python: Python interpreter.
        script: Script to run.
        settings: Argument of the script.

    Raises:
        CodecUnavailable: If it cannot be started.
    """

    def __init__(self, python: str, script: Path, settings: dict[str, Any]) -> None:
        self.name = f"codec worker {script.name} run by {python}"
        self._owner = os.getpid()
        # The user's own script must find `serve`.
        paths = [str(WORKERS), *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            self.log = WorkerLog()
        except OSError as error:
            raise CodecUnavailable(f"{self.name}: its log cannot be written ({error.strerror})") from error
        try:
            self.process = subprocess.Popen(
                [python, "-u", str(script), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # it and its children can be ended together; Ctrl-C does not reach them
            )
        except (OSError, ValueError) as error:
            self.log.close(keep=False)
            reason = getattr(error, "strerror", None) or str(error)
            raise CodecUnavailable(f"codec worker {script.name}: {python} cannot be started ({reason})") from error
        for pipe in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(pipe.fileno(), False)
        self._waiting = bytearray()  # what was read of stdout and is not yet a whole line
        self._searched = 0  # bytes of it without a line end
        self._count = 0
        self._failed = False

    @property
    def _stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def _stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr

    @property
    def is_ours(self) -> bool:
        """Whether this Python process started the worker. After a fork, the child must start its own."""
        return self._owner == os.getpid()

    def ask(self, request: str, arguments: Any, timeout: float, most: int) -> dict[str, Any]:
        """Send one request and return its answer: a dict with ``result``, or with ``error`` and perhaps ``made``.

        Args:
            request: Name of the request.
            arguments: Its arguments, packed.
            timeout: Maximum time for sending, computing and answering, in seconds.
            most: Maximum size of the answer, in bytes.

        Raises:
            ValueError: If the worker ends, does not answer in time, or gives no valid answer.
        """
        self._count += 1
        line = json.dumps({"id": self._count, "do": request, "arguments": arguments}) + "\n"
        answer = self._exchange(request, line.encode(), timeout, most)
        try:
            made = json.loads(answer)
        except (ValueError, RecursionError):
            raise self.failure(f"answered {request!r} with a line that is not JSON: {_start_of(answer)}") from None
        if not isinstance(made, dict) or type(made.get("id")) is not int:
            raise self.failure(f"answered {request!r} without the number of the request: {_start_of(answer)}")
        if made["id"] != self._count:
            raise self.failure(f"answered request {made['id']} when {request!r}, number {self._count}, was asked")
        if "error" in made:
            if not isinstance(made["error"], str) or not isinstance(made.get("made", True), bool):
                raise self.failure(f"answered {request!r} with an error that is no text: {_start_of(answer)}")
        elif not isinstance(made.get("result"), dict):
            raise self.failure(f"answered {request!r} with neither a result nor an error: {_start_of(answer)}")
        return made

    def _exchange(self, request: str, line: bytes, timeout: float, most: int) -> bytes:
        """Write a request while reading what the worker prints, until its answer is there."""
        limit = Deadline(timeout)
        unsent = memoryview(line)
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stderr, selectors.EVENT_READ)
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while True:
                answer = self._whole_answer(request, most)
                if answer is not None:
                    self._read_stderr()  # printed before the answer
                    return answer
                left = limit.left()
                if not left:
                    reads = "" if not len(unsent) else ": it does not read its requests"
                    raise self.failure(f"did not answer {request!r} in {timeout:g} s{reads}")
                ready = {key.fileobj for key, _ in selector.select(min(left, LOOK))}
                if self._stderr in ready and not self._read_stderr():
                    selector.unregister(self._stderr)
                if self._stdin in ready:
                    unsent = self._write(unsent)
                    if not len(unsent):
                        selector.unregister(self._stdin)
                dead = self.process.poll() is not None  # a child of it may hold stdout open
                read = self._read(self._stdout) if dead or self._stdout in ready else b""
                if read is None or (dead and not read):
                    raise self._ended()
                self._waiting += read

    def _write(self, unsent: memoryview) -> memoryview:
        try:
            return unsent[os.write(self._stdin.fileno(), unsent[:CHUNK]) :]
        except BlockingIOError:
            return unsent
        except BrokenPipeError:  # it has ended: reading tells
            return unsent[len(unsent) :]

    def _read(self, pipe: IO[bytes]) -> bytes | None:
        """What a pipe holds now; None at its end."""
        try:
            return os.read(pipe.fileno(), CHUNK) or None
        except BlockingIOError:
            return b""

    def _read_stderr(self, limit: float = LOOK) -> bool:
        """Log what stderr holds now, for a limited time. False at its end."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            read = self._read(self._stderr)
            if read is None:
                return False
            if not read:
                break
            self.log.add(read)
        return True

    def _whole_answer(self, request: str, most: int) -> bytes | None:
        """Take the next whole line with an answer; log all other lines."""
        start = ANSWER.encode()
        while True:
            end = self._waiting.find(b"\n", self._searched)
            answers = self._waiting.startswith(start)
            if answers and (len(self._waiting) if end < 0 else end) > most:
                raise self.failure(f"answered {request!r} with more than {most} bytes")
            if end < 0:
                if not answers and len(self._waiting) > LONGEST_LINE:
                    self.log.add(bytes(self._waiting))
                    self._waiting.clear()
                self._searched = len(self._waiting)
                return None
            line = bytes(self._waiting[: end + 1])
            del self._waiting[: end + 1]
            self._searched = 0
            if answers:
                return line
            if line.strip():
                self.log.add(line)  # printed before `serve` reserved stdout for answers

    def _ended(self) -> ValueError:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)
        self._read_stderr()
        code = self.process.poll()
        if code is not None and code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            cause = f"was killed by {name}{', perhaps because memory ran out' if -code == signal.SIGKILL else ''}"
        elif code is None:
            cause = "has closed its output"
        else:
            cause = "has ended"
        return self.failure(f"{cause}: {self.log.last_words()}", told=False)

    def failure(self, what: str, told: bool = True) -> ValueError:
        """The error for a worker that cannot be used any more. It is killed when it is closed, and its log is kept.

        Args:
            what: What happened.
            told: Whether to add the last line that the worker printed.
        """
        self._failed = True
        said = f", which last printed {self.log.last_words()!r}," if told and self.log.printed else ""
        return ValueError(f"{self.name}{said} {what} (log: {self.log.name})")

    def close(self, wait: bool = True) -> None:
        """End the process and its children.

        Args:
            wait: Whether it may end by itself. After a failure it is killed, because it may stay busy for a long time.
        """
        if not self.is_ours:
            return
        if self._failed or not wait:
            self._kill()
        with suppress(OSError):
            self._stdin.close()  # ends the loop of the worker
        end = time.monotonic() + GOODBYE
        while self.process.poll() is None and time.monotonic() < end:
            self._drain(0.05)
        self._kill()
        self.process.wait()
        self._drain(0)
        for pipe in (self._stdout, self._stderr):
            pipe.close()
        self.log.close(keep=self._failed)

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _drain(self, wait: float) -> None:
        """Log what the pipes hold, so that a worker that prints at its end does not block."""
        if wait:
            time.sleep(wait)
        for pipe in (self._stdout, self._stderr):
            for _ in range(LOG_TAIL // CHUNK):
                read = self._read(pipe)
                if not read:
                    break
                self.log.add(read)


def one_line(text: str, most: int = 300) -> str:
    """A text as one printable line of limited length."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def _start_of(answer: bytes) -> str:
    return one_line(answer[:200].decode(errors="replace"), 80)
