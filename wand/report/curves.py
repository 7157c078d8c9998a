"""The curves of a training, from the TensorBoard events of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wand.report.charts import Curve, LineChart
from wand.report.events import event_files, read_scalars

# Title of every chart, and the names of its curves with their tags.
CHARTS: Sequence[tuple[str, Mapping[str, str]]] = (
    ("Loss, nats per label", {"loss": "train/loss", "cross-entropy": "train/ce"}),
    ("KD loss, nats per label", {"KD loss": "train/kd", "KL from the teacher": "train/kl"}),
    ("Agreement with the teacher, share of labels", {"training": "train/agreement", "validation": "val/agreement"}),
    ("CER of validation sentences, share of letters", {"student": "val/cer", "teacher": "val/teacher_cer"}),
    ("Window, speech columns", {"window": "train/window"}),
    ("Soft mask tau, subtracted from logits", {"tau": "train/tau"}),
)
# A longer curve is thinned out.
POINTS = 400


def training_charts(run: Path) -> list[LineChart]:
    """The charts of a run; those without any point are left out."""
    files = event_files(run)
    if not files:
        return []
    scalars = read_scalars(run)
    source = ", ".join(file.name for file in files[:1]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    charts = []
    for title, tags in CHARTS:
        curves = [Curve(name, thinned(scalars[tag])) for name, tag in tags.items() if scalars.get(tag)]
        if curves:
            charts.append(LineChart(title, curves, source))
    return charts


def thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Every n-th point and the last one."""
    stride = -(-len(points) // POINTS)
    return [*points[:-1:stride], points[-1]]
