"""Metrics of spoken sentences, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from wand.evaluation.metric import TestMetric
from wand.registry import METRICS

# The class of each metric. `wand.registry.METRICS` has their modules.
_CLASSES = {
    "duration": "Duration",
    "early": "Early",
    "no_stop": "NoStop",
    "loop": "Loop",
    "silence": "Silence",
    "pitch_drift": "PitchDrift",
    "level_drift": "LevelDrift",
    "rate_drift": "RateDrift",
    "mcd": "Mcd",
    "f0": "F0",
    "voicing": "Voicing",
    "similarity": "Similarity",
    "dnsmos": "DnsmosOverall",
}
# Class path of each metric. A class is imported when its metric is used.
KNOWN: dict[str, str] = {name: f"{METRICS[kind]}.{kind}" for name, kind in _CLASSES.items()}
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
    except (ImportError, AttributeError, TypeError) as error:  # TypeError for a path that begins with dots
        raise ValueError(f"metric {name!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, TestMetric)):
        raise ValueError(f"metric {name!r} is no subclass of wand.evaluation.metric.TestMetric")
    make: Callable[..., TestMetric] = found
    try:
        metric: TestMetric = make(argument) if colon else make()
    except TypeError as error:
        raise ValueError(f"metric {name!r} cannot be made: {error}") from error
    return metric
