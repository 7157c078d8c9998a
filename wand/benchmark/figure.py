"""The paper's latency figure: the time of a step after more and more speech, with full attention and with a window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wand.benchmark.cost_report import CostReport
from wand.files.writing import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 9


def curve_seconds(longest: float) -> list[float]:
    """Seconds of speech at which the curve is measured, evenly spaced from 0 to the longest."""
    return [longest * i / (POINTS - 1) for i in range(POINTS)]


def draw_latency(report: CostReport) -> Figure:
    """Draw one line per system.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for system in dict.fromkeys(step.system for step in report.curve):
        points = [
            (s.columns, s.milliseconds) for s in report.curve if s.system == system and s.milliseconds is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", label=system, markersize=3)
    axes.set(title=report.model, ylabel="milliseconds per step", xlim=(0, None), ylim=(0, None))
    axes.set_xlabel(f"step (speech columns so far, {report.columns_per_second:g} a second)")
    axes.legend()
    return figure


def save_latency(report: CostReport, folder: Path) -> list[str]:
    """Write ``latency.png``, and the figure and its numbers for TensorBoard.

    Returns:
        What could not be written, and what to install for it.
    """
    try:
        figure = draw_latency(report)
    except ImportError:
        return ["no latency.png: matplotlib is not installed (pip install 'wand-tts[plots]')"]
    with replacing(folder / "latency.png") as partial:
        figure.savefig(partial, dpi=120, format="png")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return ["no file for TensorBoard: tensorboard is not installed (pip install tensorboard)"]
    with SummaryWriter(str(folder)) as board:
        board.add_figure("benchmark/latency", figure)
        for step in report.curve:
            if step.milliseconds is not None:
                board.add_scalar(f"benchmark/milliseconds/{step.system}", step.milliseconds, step.columns)
    return []
