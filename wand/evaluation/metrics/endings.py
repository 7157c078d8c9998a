"""How long a speech lasts, how it ends, and how much of it is silence."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.evaluation.quality import EARLY, LATE, Take
from wand.metrics.recorded.distances import silence_share
from wand.recognition.activity import active_frames, levels


class TakeMetric(TestMetric):
    """A metric that needs nothing but the take itself."""

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """The value of each take."""
        return [self.value(one.take) for one in spoken]

    @abstractmethod
    def value(self, take: Take) -> float | None:
        """The value of one take; None if it is undefined."""


class Duration(TakeMetric):
    """Seconds spoken over seconds recorded."""

    name = "duration"
    title = "duration"
    legend = "seconds spoken over seconds recorded"

    def value(self, take: Take) -> float | None:
        """NaN without a recording."""
        return take.duration


class Early(TakeMetric):
    """Whether the speech stopped much earlier than the recording: 100 or 0."""

    name = "early"
    title = "early %"
    legend = f"takes that stopped before {EARLY:g} of the recorded duration"
    digits = 1

    def value(self, take: Take) -> float | None:
        """None without a recording."""
        return None if math.isnan(take.duration) else 100.0 * take.early


class NoStop(TakeMetric):
    """Whether the speech missed its stop: 100 or 0. Without a recording, only the bound and silence count."""

    name = "no_stop"
    title = "no stop %"
    legend = f"takes that reached the length bound, fell silent, or lasted more than {LATE:g} of the recorded duration"
    digits = 1

    def value(self, take: Take) -> float | None:
        """Always defined."""
        return 100.0 * take.missing


class Loop(TakeMetric):
    """Whether the speech was stopped because it repeated itself: 100 or 0."""

    name = "loop"
    title = "loops %"
    legend = "takes that were stopped because they repeated themselves"
    digits = 1

    def value(self, take: Take) -> float | None:
        """Always defined."""
        return 100.0 * take.looped


class Silence(TestMetric):
    """Share of the speech that is silent: before, after and between the words, from 0.2 s on."""

    name = "silence"
    title = "silence %"
    legend = "share of the sound without speech: before, after and between words, from pauses of 0.2 s on"
    digits = 1

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """The share of each take; NaN for a take without sound."""
        return [100 * silence_share(active_frames(levels(one.audio, one.sample_rate))) for one in spoken]
