"""The attention of a model as a picture, and as figures for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wand.coverage.choice import SIZES
from wand.coverage.report import NAME, CoverageReport, aligned_heads, drawn_window
from wand.files.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(report: CoverageReport) -> Figure:
    """Draw the coverage of every head, where the attention of every layer goes, and coverage by window.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    layers, heads = report.mass.prefix.shape
    figure = Figure(figsize=(max(3.2, 1.6 + 0.42 * heads) + 9, max(3.6, 1.4 + 0.32 * layers)), layout="constrained")
    ratios = [max(3.2, 1.6 + 0.42 * heads), 5, 4]
    by_head, by_layer, by_window = figure.subplots(1, 3, width_ratios=ratios)
    _draw_heads(by_head, report)
    _draw_layers(by_layer, report)
    _draw_windows(by_window, report)
    parts = by_layer.get_legend_handles_labels()
    figure.legend(*parts, loc="outside lower center", ncols=len(parts[0]), fontsize=7, frameon=False)
    figure.suptitle(report.title, fontsize=8)
    return figure


def _draw_heads(axes: Axes, report: CoverageReport) -> None:
    window = drawn_window(report)
    covered = report.mass.covered(window)
    image = axes.imshow(covered.numpy(), cmap="viridis", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    layers, heads = covered.shape
    axes.set(title=f"covered by window {window}", xlabel="head", ylabel="layer")
    axes.set_xticks(range(heads))
    axes.set_yticks(range(layers))
    axes.tick_params(labelsize=7)
    marked = aligned_heads(report)
    if marked:
        axes.plot([head for _, head in marked], [layer for layer, _ in marked], "*", color="red", markersize=9)
        axes.set_xlabel("head (star: follows the text)")
    axes.figure.colorbar(image, ax=axes)


def _draw_layers(axes: Axes, report: CoverageReport) -> None:
    window, mass = drawn_window(report), report.mass
    speech = {f"speech inside {window}": mass.inside(window), "speech outside": 1 - mass.covered(window)}
    shares = {**(mass.parts or {"prefix": mass.prefix}), **speech}
    places, left = range(report.layers), torch.zeros(report.layers)
    for (name, share), color in zip(shares.items(), _colors(len(shares)), strict=True):
        mean = share.mean(1)
        axes.barh(places, mean.numpy(), left=left.numpy(), label=name, color=color)
        left = left + mean
    axes.set(title="where each layer looks", xlabel="share of attention", ylabel="layer", xlim=(0, 1))
    axes.set_yticks(places)
    axes.tick_params(labelsize=7)
    axes.invert_yaxis()


def _draw_windows(axes: Axes, report: CoverageReport) -> None:
    by_layer = [report.mass.covered(size).mean(1) for size in SIZES]
    axes.fill_between(
        SIZES, [c.min().item() for c in by_layer], [c.max().item() for c in by_layer], alpha=0.2, label="layers"
    )
    axes.plot(SIZES, [c.mean().item() for c in by_layer], "o-", markersize=3, label="mean")
    axes.axhline(report.wanted, color="gray", linestyle=":", label=f"wanted: {report.wanted:g}")
    axes.set(title="covered by window", xlabel="window (columns)", ylim=(0, 1.01))
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, map(str, SIZES))
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, loc="lower right")


def _colors(count: int) -> list[str]:
    """Colors of the parts: those of the prefix first, light gray for what a window leaves out."""
    return [*(["tab:blue", "tab:cyan"] if count == 4 else ["tab:blue"]), "tab:green", "lightgray"]


def save_picture(report: CoverageReport, folder: Path) -> list[str]:
    """Write ``coverage.png``, and the picture and its figures for TensorBoard.

    Returns:
        What could not be written, and what to install for it.
    """
    try:
        figure = draw(report)
    except ImportError:
        return [f"no {NAME}.png: matplotlib is not installed (pip install 'wand-tts[plots]')"]
    with replacing(folder / f"{NAME}.png") as partial:
        figure.savefig(partial, dpi=120, format="png")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return ["no file for TensorBoard: tensorboard is not installed (pip install tensorboard)"]
    with SummaryWriter(str(folder)) as board:
        board.add_figure("coverage/heads", figure)
        for size in SIZES:
            covered = report.mass.covered(size).mean(1)
            board.add_scalar("coverage/mean", covered.mean().item(), size)
            board.add_scalar("coverage/lowest_layer", covered.min().item(), size)
    return []
