"""The page in a browser: it lists voices, speaks, and shows its figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.serving.conftest import SECONDS, Running, until

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


class Tab:
    """A tab of a browser, through its debugging protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, count()

    def call(self, method: str, **params: object) -> dict:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv(timeout=60))).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, script: str) -> object:
        result = self.call("Runtime.evaluate", expression=script, userGesture=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self, name: str) -> str:
        return str(self.run(f"document.getElementById('{name}').textContent"))


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    assert CHROMIUM is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--remote-debugging-port=0"]
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", "about:blank"]
    log = tmp_path / "log"
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as browser:
        try:
            assert until(lambda: "DevTools listening on" in log.read_text()), log.read_text()
            found = re.search(r"DevTools listening on ws://([\w.:]+)", log.read_text())
            assert found is not None
            with connect(f"ws://{found[1]}{page_of(found[1])}", proxy=None, max_size=None) as socket:
                yield Tab(socket)
        finally:
            browser.terminate()


def page_of(address: str) -> str:
    """The path of the first tab."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pages = [one for one in httpx.get(f"http://{address}/json", trust_env=False).json() if one["type"] == "page"]
        if pages:
            return httpx.URL(pages[0]["webSocketDebuggerUrl"]).path
        time.sleep(0.1)
    raise AssertionError("the browser opens no page")


def test_the_page_speaks(tab: Tab, server: Running, tmp_path: Path) -> None:
    tab.call("Page.enable")
    tab.call("Page.navigate", url=server.url)
    assert until(lambda: tab.run("document.getElementById('voice')?.options.length") == 2)
    assert until(lambda: tab.text("model") == "tiny")
    tab.run("document.getElementById('speak').click()")
    assert until(lambda: tab.text("state") in ("spoken", "failed")), tab.text("state")
    assert tab.text("error") == ""
    assert tab.text("state") == "spoken"
    assert tab.text("seconds") == f"{SECONDS} s"
    assert float(tab.text("first").removesuffix(" s")) > 0
    assert float(tab.text("factor")) > 0
    tab.run("document.getElementById('text').value = ' '")
    tab.run("document.getElementById('speak').click()")
    assert until(lambda: tab.text("state") == "failed")
    assert "the text is empty" in tab.text("error")
    assert server.becomes_idle()
