"""Tables that a command has written as Markdown, as it has written them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wand.files.text import read_text
from wand.report.figures import Table


def read_tables(file: Path, source: str) -> list[Table]:
    """Read the tables of a Markdown file, each with the heading and the paragraphs around it.

    Args:
        file: The file. Its blocks are headings, tables, lists and paragraphs, with blank lines between them.
        source: The name of the file, for readers.
    """
    tables: list[Table] = []
    title, before = "", list[str]()
    columns, lines, after = list[str](), list[list[str]](), list[str]()

    def close() -> None:
        if columns or before:
            tables.append(Table(title, columns, lines, after, source, intro=before))

    for block in read_text(file).split("\n\n"):
        text = block.strip()
        is_table = text.startswith("|")
        if text.startswith("#") or (is_table and columns):
            close()
            before, columns, lines, after = [], [], [], []
            title = "" if is_table else text.lstrip("# ")
        if is_table:
            columns, _, *lines = (_cells(line) for line in text.splitlines())
        elif text and not text.startswith("#"):
            (after if columns else before).extend(_paragraphs(text))
    close()
    return tables


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("*`") for cell in line.strip().strip("|").split("|")]


def _paragraphs(text: str) -> Sequence[str]:
    """The items of a list, or one paragraph."""
    if text.startswith("* "):
        return [" ".join(item.split()) for item in text.removeprefix("* ").split("\n* ")]
    return [" ".join(text.split())]
