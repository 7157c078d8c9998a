"""The page in a browser: it lists voices, speaks, and shows its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import PROGRAM, browser
from tests.serving.conftest import SECONDS, Running, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROGRAM is None, reason="needs the program chromium, chromium-browser or google-chrome"),
]


def test_the_page_speaks(server: Running, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as tab:
        tab.open(server.url)
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
