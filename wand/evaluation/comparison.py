"""The table that says what adaptation was worth: teacher, its weights under the window untrained, the student."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

LEGEND = {
    "teacher": "the original model, full attention",
    "untrained": "its weights under the window, no training",
    "student": "adapted to the window",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One system.

    Args:
        system: ``teacher``, ``untrained`` or ``student``.
        window: Its window in columns; None is full attention.
        ce: Cross-entropy of reference codes, nats a label.
        agreement: Share of labels on which it picks the teacher's token.
        kl: True divergence from the teacher, nats a label.
        kv_bytes: Bytes of one row's cache by seconds of speech.
        step_ms: Milliseconds a decoding step by columns spoken before.
    """

    system: str
    window: int | None
    ce: float
    agreement: float | None
    kl: float | None
    kv_bytes: dict[float, int]
    step_ms: dict[int, float]


def recovered(rows: list[Row]) -> dict[str, float]:
    """Which share of what the untrained window lost the student has won back, by measure; 1 is the teacher's level."""
    by_name = {row.system: row for row in rows}
    if not {"teacher", "untrained", "student"} <= by_name.keys():
        return {}
    shares = {}
    for measure in ("agreement", "kl", "ce"):
        teacher, untrained, student = (getattr(by_name[name], measure) for name in ("teacher", "untrained", "student"))
        if untrained != teacher:
            shares[measure] = (student - untrained) / (teacher - untrained)
    return shares


def header(rows: list[Row]) -> list[str]:
    """Column titles."""
    first = rows[0]
    titles = ["system", "W", "agree %", "KL", "CE"]
    titles += [f"MiB {seconds:g} s" for seconds in first.kv_bytes]
    return titles + [f"ms @{columns}" for columns in first.step_ms]


def cells(row: Row) -> list[str]:
    """One line of the table."""
    texts = [row.system, "full" if row.window is None else str(row.window)]
    texts += ["-" if row.agreement is None else f"{100 * row.agreement:.1f}"]
    texts += ["-" if row.kl is None else f"{row.kl:.4f}", f"{row.ce:.4f}"]
    texts += [f"{size / 2**20:.2f}" for size in row.kv_bytes.values()]
    return texts + [f"{ms:.2f}" for ms in row.step_ms.values()]


def legend(rows: list[Row]) -> str:
    """What the table says, in words."""
    names = "; ".join(f"{row.system}: {LEGEND[row.system]}" for row in rows)
    return (
        f"{names}. KL and CE in nats a label, agreement with the teacher's choice; KV: bytes of one "
        f"voice's cache after "
        "that much speech; ms: a decoding step after that many columns."
    )


def summary(rows: list[Row]) -> str:
    """What was won back, in one sentence."""
    shares = recovered(rows)
    if not shares:
        return ""
    won = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    return f"Won back of what the untrained window lost: {won}."


def to_markdown(rows: list[Row]) -> str:
    """The table and its summary."""
    titles = header(rows)
    lines = [titles, ["---"] * len(titles), *(cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{legend(rows)}\n\n{summary(rows)}\n"


def show(rows: list[Row], console: Console | None = None) -> None:
    """Print the table."""
    console = console or Console()
    table = Table(title="Test split", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in header(rows):
        table.add_column(title, justify="left" if title == "system" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    console.print(legend(rows))
    if text := summary(rows):
        console.print(text)


def save(rows: list[Row], folder: Path) -> None:
    """Write ``comparison.json`` and ``comparison.md``."""
    content = {"rows": [asdict(row) for row in rows], "recovered": recovered(rows)}
    (folder / "comparison.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "comparison.md").write_text(to_markdown(rows))
