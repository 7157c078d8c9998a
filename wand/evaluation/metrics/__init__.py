"""Metrics of spoken sentences, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from wand.evaluation.metric import TestMetric

# Class path of each metric. A class is imported when its metric is used.
KNOWN: dict[str, str] = {
    "duration": "wand.evaluation.metrics.endings.Duration",
    "early": "wand.evaluation.metrics.endings.Early",
    "no_stop": "wand.evaluation.metrics.endings.NoStop",
    "loop": "wand.evaluation.metrics.endings.Loop",
    "silence": "wand.evaluation.metrics.endings.Silence",
    "pitch_drift": "wand.evaluation.metrics.drift.PitchDrift",
    "level_drift": "wand.evaluation.metrics.drift.LevelDrift",
    "rate_drift": "wand.evaluation.metrics.drift.RateDrift",
    "mcd": "wand.evaluation.metrics.recorded.Mcd",
    "f0": "wand.evaluation.metrics.recorded.F0",
    "voicing": "wand.evaluation.metrics.recorded.Voicing",
    "similarity": "wand.evaluation.metrics.similarity.Similarity",
    "dnsmos": "wand.evaluation.metrics.naturalness.DnsmosOverall",
}
# What is measured without being asked for: it needs no further package and takes little time.
DEFAULT = ("duration", "early", "no_stop", "loop", "silence")


def open_metric(name: str) -> TestMetric:
    """Make a metric.

    Args:
        name: A name of `KNOWN`, or the import path of a subclass of `TestMetric`. What follows a colon is given to the
            class as its only argument: ``my_package.Similarity:weights/large``.

    Raises:
        ValueError: If there is no such metric, or it cannot be made.
    """
    given, colon, argument = name.partition(":")
    path = KNOWN.get(given, given)
    module, _, attribute = path.rpartition(".")
    if not module:
        raise ValueError(f"there is no metric {given!r}: known are {', '.join(KNOWN)}, or give the path of a class")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"metric {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, TestMetric)):
        raise ValueError(f"metric {name!r} is no subclass of wand.evaluation.metric.TestMetric")
    make: Callable[..., TestMetric] = found
    try:
        metric: TestMetric = make(argument) if colon else make()
    except TypeError as error:
        raise ValueError(f"metric {name!r} cannot be made: {error}") from error
    return metric
