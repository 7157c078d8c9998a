"""The table that says what adaptation was worth, on the console, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from wand.evaluation.quality import BUCKETS, EARLY, LATE, SpeechQuality
from wand.evaluation.systems import System

Cells = dict[str, Callable[["Row"], str]]
WonBack = dict[str, tuple[float, tuple[float, float] | None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One system.

    Args:
        system: What ran.
        ce: Cross-entropy of reference codes, nats a label.
        agreement: Share of labels on which it picks the teacher's token.
        kl: True divergence from the teacher, nats a label.
        kv_bytes: Bytes of one row's cache by seconds of speech.
        step_ms: Milliseconds a decoding step by columns spoken before.
        speech: How its speech was heard; None without a recogniser.
    """

    system: System
    ce: float
    agreement: float | None
    kl: float | None
    kv_bytes: dict[float, int]
    step_ms: dict[int, float]
    speech: SpeechQuality | None = None


def won_back_codes(rows: Sequence[Row]) -> WonBack:
    """Which share of what the untrained window lost on reference codes the student has won back, by measure."""
    by_name = {row.system.name: row for row in rows}
    if not {"teacher", "untrained", "student"} <= by_name.keys():
        return {}
    shares: WonBack = {}
    for measure in ("agreement", "kl", "ce"):
        teacher, untrained, student = (getattr(by_name[name], measure) for name in ("teacher", "untrained", "student"))
        if untrained != teacher:
            shares[measure] = ((student - untrained) / (teacher - untrained), None)
    return shares


def speech_cells(rows: Sequence[Row]) -> Cells:
    """Columns on what was spoken, by title; none without a recogniser."""
    if any(row.speech is None for row in rows):
        return {}

    def speech(row: Row) -> SpeechQuality:
        assert row.speech is not None
        return row.speech

    cells: Cells = {
        "CER % [95 %]": lambda row: _percent(speech(row).cer, speech(row).cer_interval),
        "WER % [95 %]": lambda row: _percent(speech(row).wer, speech(row).wer_interval),
    }
    if any(speech(row).cer_unseen is not None for row in rows):
        cells["unseen voice"] = lambda row: _percent(speech(row).cer_unseen)
    names = list(dict.fromkeys(name for row in rows for name in speech(row).cer_by_length))
    for name in names:
        cells[f"CER {name}"] = lambda row, name=name: _percent(speech(row).cer_by_length.get(name))  # type: ignore[misc]
    return cells | {
        "duration": lambda row: f"{speech(row).duration:.2f}",
        "early %": lambda row: _percent(speech(row).early),
        "no stop %": lambda row: _percent(speech(row).missing),
        "loops %": lambda row: _percent(speech(row).loops),
    }


def code_cells(rows: Sequence[Row]) -> Cells:
    """Columns on reference codes and cost, by title."""
    cells: Cells = {
        "agree %": lambda row: _percent(row.agreement),
        "KL": lambda row: "-" if row.kl is None else f"{row.kl:.4f}",
        "CE": lambda row: f"{row.ce:.4f}",
    }
    for seconds in rows[0].kv_bytes:
        cells[f"MiB {seconds:g} s"] = lambda row, seconds=seconds: f"{row.kv_bytes[seconds] / 2**20:.2f}"  # type: ignore[misc]
    for columns in rows[0].step_ms:
        cells[f"ms @{columns}"] = lambda row, columns=columns: f"{row.step_ms[columns]:.2f}"  # type: ignore[misc]
    return cells


def legend(rows: Sequence[Row]) -> list[str]:
    """What the tables say, in words."""
    names = [row.system.name if row.system.name == "student-full" else row.system.name.split("-")[0] for row in rows]
    meanings = dict.fromkeys(f"{name}: {row.system.meaning}" for name, row in zip(names, rows, strict=True))
    lines = ["; ".join(meanings) + "."]
    speech = rows[0].speech
    if speech is not None:
        lines.append(
            f"{speech.sentences} sentences in trained voices, {speech.takes} takes; intervals: sentences resampled. "
            f"Buckets by the recording's length (bounds {', '.join(f'{b:g}' for b in BUCKETS)} s). duration: seconds "
            f"spoken over seconds recorded; early: stopped below {EARLY:g} of it; no stop: none within the bound, or "
            f"above {LATE:g} of it."
        )
    lines.append(
        "KL and CE in nats a label, agreement with the teacher's choice, on recorded speech; MiB: one voice's cache "
        "after that much speech; ms: a decoding step after that many columns."
    )
    return lines


def summary(shares: WonBack) -> str:
    """What was won back, in one sentence."""
    if not shares:
        return ""
    won = ", ".join(
        f"{name.upper() if name != 'agreement' else name} {_percent(*value)} %" for name, value in shares.items()
    )
    return f"Won back of what the untrained window lost: {won}."


def to_markdown(rows: Sequence[Row], shares: WonBack) -> str:
    """Tables, legend and summary."""
    parts = []
    for cells in (speech_cells(rows), code_cells(rows)):
        if cells:
            titles = ["system", "W", *cells]
            lines = [titles, ["---"] * len(titles), *(_line(row, cells) for row in rows)]
            parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join([*parts, *legend(rows), summary(shares)]).rstrip() + "\n"


def show(rows: Sequence[Row], shares: WonBack, console: Console | None = None) -> None:
    """Print the tables."""
    console = console or Console()
    for title, cells in (("Test split: spoken", speech_cells(rows)), ("Test split: codes, cost", code_cells(rows))):
        if cells:
            table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
            for name in ("system", "W", *cells):
                table.add_column(name, justify="left" if name == "system" else "right")
            for row in rows:
                table.add_row(*_line(row, cells))
            console.print(table)
    for line in legend(rows):
        console.print(line)
    if text := summary(shares):
        console.print(text)


def save(rows: Sequence[Row], shares: WonBack, folder: Path) -> None:
    """Write ``table.json`` and ``table.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    won = {name: {"share": share, "interval": interval} for name, (share, interval) in shares.items()}
    plain = [{**asdict(row), "kv_bytes": {f"{s:g}": size for s, size in row.kv_bytes.items()}} for row in rows]
    content = {"rows": plain, "won_back": won}
    (folder / "table.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "table.md").write_text(to_markdown(rows, shares))


def _line(row: Row, cells: Cells) -> list[str]:
    size = row.system.window.plain
    return [row.system.name, "full" if size is None else str(size), *(cell(row) for cell in cells.values())]


def _percent(share: float | None, interval: tuple[float, float] | None = None) -> str:
    if share is None:
        return "-"
    bounds = "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * share:.1f}{bounds}"
