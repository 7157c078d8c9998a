"""What the TensorBoard events of a run hold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from wand.report.source import EVENTS

if TYPE_CHECKING:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Number of values of a tag that are read: all scalars, and the newest of the rest.
READ = {"scalars": 0, "tensors": 1, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1}


def event_files(run: Path) -> list[Path]:
    """The files with the events of a run."""
    return sorted(run.glob(EVENTS))


def read_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of all scalars of a run, by tag. Values that are not finite are left out."""
    events = _read(run)
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag) if math.isfinite(event.value)]
        for tag in events.Tags()["scalars"]
    }


def read_texts(run: Path) -> dict[str, str]:
    """The newest text of every tag of a run, by tag."""
    ending, events = "/text_summary", _read(run)
    return {
        tag.removesuffix(ending): events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
        for tag in events.Tags()["tensors"]
        if tag.endswith(ending)
    }


def _read(run: Path) -> EventAccumulator:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), READ)
    events.Reload()
    return events
