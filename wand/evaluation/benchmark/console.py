"""Tables and progress on the terminal: with rich where it is installed, plain where it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

FILE_WIDTH = 140


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def show_table(title: str, titles: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table; the first two columns are words, the others numbers."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"\n{title}\n\n{markdown(titles, lines)}", flush=True)
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(titles):
        table.add_column(name, justify="left" if i < 2 else "right")
    for line in lines:
        table.add_row(*line)
    console = Console()
    # A file has no width of its own, and rich would take it for a narrow terminal.
    (console if console.is_terminal else Console(width=FILE_WIDTH)).print(table)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar of so many parts on standard error; call what it gives with the name of the part that begins."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    look = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*look, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=total)
        begun = iter(range(total + 1))

        def begin(text: str) -> None:
            bars.update(bar, description=text, completed=next(begun))

        yield begin
