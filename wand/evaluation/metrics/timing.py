"""How long speech lasts, and how much of it is silence."""

from __future__ import annotations

from collections.abc import Sequence

from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.metrics.recorded.distances import silence_share
from wand.recognition.activity import active_frames, levels


class Duration(TestMetric):
    """Duration of a take divided by the recording's duration."""

    name = "duration"
    title = "duration"
    legend = "duration: seconds spoken over seconds recorded"

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take."""
        return [one.take.duration for one in spoken]


class Silence(TestMetric):
    """Share of a take without active speech."""

    name = "silence"
    title = "silence %"
    legend = "silence: pauses of at least 0.2 s and silence around the speech, in % of its duration"
    digits = 1

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take."""
        return [100 * silence_share(active_frames(levels(one.audio, one.sample_rate))) for one in spoken]
