"""Tables show texts as they are."""

from __future__ import annotations

import pytest

from wand.console.tables import show_table


def test_brackets_and_colons_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("of [b]", ["text"], [["[laughter] oh [breath] my."], ["this is [/b] it."], ["so :smile: it is."]])
    printed = capsys.readouterr().out
    assert "of [b]" in printed
    assert "[laughter] oh [breath] my." in printed
    assert "this is [/b] it." in printed
    assert "so :smile: it is." in printed
