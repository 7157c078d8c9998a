"""Tables that are read from Markdown, against those that were written."""

from __future__ import annotations

from pathlib import Path

from wand.console.tables import markdown
from wand.report.markdown import read_tables

TITLES, LINES = ["system", "CER % [95 %]"], [["teacher", "1.0 [0.5, 2.0]"], ["student - teacher", "+0.1 [-0.2, +0.4]"]]


def test_tables_keep_their_headings_and_paragraphs(tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    table = markdown(TITLES, LINES)
    file.write_text(
        f"# First\n\nBefore\nit.\n\n{table}\n\n* One: a\n  meaning.\n* Two.\n\n"
        f"## Second\n\n{table}\n\n{table}\n\nAfter.\n\n"
        f"## Third\n\nOnly words.\n"
    )
    first, second, untitled, third = read_tables(file, "here/table.md")
    assert (first.title, first.intro, first.notes) == ("First", ["Before it."], ["One: a meaning.", "Two."])
    for one in (first, second, untitled):
        assert (one.columns, one.lines, one.source) == (TITLES, LINES, "here/table.md")
    assert (second.title, second.intro, second.notes) == ("Second", [], [])
    assert (untitled.title, untitled.notes) == ("", ["After."])
    assert (third.title, third.columns, third.intro) == ("Third", [], ["Only words."])


def test_marks_of_emphasis_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text(markdown(["a"], [["**4.5**"], ["`x`"], [""]]))
    (table,) = read_tables(tmp_path / "table.md", "table.md")
    assert table.lines == [["4.5"], ["x"], [""]]
