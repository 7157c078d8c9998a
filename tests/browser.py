"""Headless Chromium, driven through a pair of pipes with the DevTools protocol."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--mute-audio",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
# The browser reads from this file and writes to the next one.
READS, WRITES = 3, 4


class Browser:
    """A page in a browser.

    Args:
        requests: File to which requests are written.
        answers: File from which answers and events are read.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self.requests = requests
        self.answers = answers
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        self._unread = b""
        self._count = 0
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, limit: float = 60, /, **params: Any) -> Any:
        """Send a request and give its result."""
        self._count += 1
        request = {"id": self._count, "method": method, "params": params}
        if self.session is not None:
            request["sessionId"] = self.session
        os.write(self.requests, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + limit
        while True:
            message = self._next(deadline - time.monotonic())
            if message.get("id") == self._count:
                assert "error" not in message, message["error"]
                return message["result"]
            self.events.append(message)

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Open a page and wait until it is loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Page.navigate", url=address)
        self.run("new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """The value of an expression, after its promise is kept."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, name: str) -> str:
        """The text of the element with an id."""
        return str(self.run(f"document.getElementById('{name}').textContent"))

    def picture(self, file: Path, height: int) -> None:
        """Write a picture of the upper part of the page, as wide as the window."""
        width = self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[dict[str, Any]]:
        """What went wrong until now: exceptions, lines of the console, files that are missing."""
        wrong = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")
        return [event for event in self.events if event.get("method") in wrong]

    def _next(self, limit: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, limit))
            part = os.read(self.answers, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start the browser, with its profile in an empty folder, and end it."""
    assert PROGRAM is not None
    ours, theirs = zip(*(_pipe_ends(swap) for swap in (False, True)), strict=True)

    def connect() -> None:
        for file, number in zip(theirs, (READS, WRITES), strict=True):
            os.dup2(file, number)

    command = [PROGRAM, *OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, preexec_fn=connect, close_fds=False, stderr=subprocess.DEVNULL)
    for file in theirs:
        os.close(file)
    try:
        yield Browser(*ours)
    finally:
        for file in ours:
            os.close(file)
        process.terminate()
        process.wait(30)


def _pipe_ends(swap: bool) -> tuple[int, int]:
    """Our end and their end of a pipe, with numbers that are not taken: we write, or with `swap` they do."""
    pipe = os.pipe()
    reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipe)
    for end in pipe:
        os.close(end)
    return (reads, writes) if swap else (writes, reads)
