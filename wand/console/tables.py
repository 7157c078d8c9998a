"""Tables as Markdown and on the console."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
# Width for output to a file. Without it, rich would wrap the cells as in a narrow terminal.
FILE_WIDTH = 400


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table whose lines are objects of one type.

    Args:
        title: Title of the column.
        value: Gives the cell for the object of a line.
        legend: Meaning of the column in words; empty if the legend of the column before covers it.
    """

    title: str
    value: Callable[[T], str]
    legend: str = ""


def cells(columns: Sequence[Column[T]], lines: Sequence[T]) -> tuple[list[str], list[list[str]]]:
    """Titles and cells of a table.

    Args:
        columns: The columns.
        lines: The object of every line.
    """
    return [column.title for column in columns], [[column.value(line) for column in columns] for line in lines]


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as Markdown, without a final newline.

    Args:
        titles: Titles of the columns.
        lines: Cells of every line.
    """
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def show_table(title: str, titles: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> None:
    """Print a table with rich, or as Markdown if rich is not installed.

    Args:
        title: Title of the table.
        titles: Titles of the columns.
        lines: Cells of every line.
        words: Number of leading columns with words. The others have numbers and are aligned to the right.
    """
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"\n{title}\n\n{markdown(titles, lines)}", flush=True)
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(titles):
        table.add_column(name, justify="left" if i < words else "right")
    for line in lines:
        table.add_row(*line)
    width = None if Console(file=sys.stdout).is_terminal else FILE_WIDTH
    Console(file=sys.stdout, width=width, markup=False, emoji=False).print(table)
