"""Metrics that a user might write."""

from __future__ import annotations

from collections.abc import Sequence

from wand.evaluation.metric import SpokenSentence, TestMetric


class ExtraSeconds(TestMetric):
    """Seconds spoken beyond the recording, as heard in the sounds."""

    name = "extra_seconds"
    title = "extra s"
    legend = "seconds spoken beyond the recording, times a factor"
    digits = 3

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        return [self.factor * (len(one.audio) - len(one.recorded)) / one.sample_rate for one in spoken]


class TooFewValues(ExtraSeconds):
    name = "too_few"

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        return [0.0] * (len(spoken) - 1)
