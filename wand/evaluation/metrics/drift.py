"""What changes from the first to the last third of a take: pitch, level and speaking rate."""

from __future__ import annotations

from collections.abc import Sequence

from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.evaluation.metrics.recorded import frames
from wand.metrics.prosody import PartProsody, Prosody, by_part, letters, rate_drift, thirds


class PitchDrift(TestMetric):
    """Median pitch of the last third of the sound above that of the first."""

    name = "pitch_drift"
    title = "pitch drift st"
    legend = "median pitch of the last third of the sound above that of the first, in semitones"

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take; NaN if one of the thirds has no voice."""
        return [_thirds(one).pitch_drift for one in spoken]


class LevelDrift(TestMetric):
    """Level of the speech in the last third of the sound above that in the first."""

    name = "level_drift"
    title = "level drift dB"
    legend = "level of active speech in the last third of the sound above that in the first, in dB"

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take; NaN if one of the thirds has no active speech."""
        return [_thirds(one).level_drift for one in spoken]


class RateDrift(TestMetric):
    """By which share the last third of the words is spoken faster than the first."""

    name = "rate_drift"
    title = "rate drift %"
    legend = "how much faster the last third of the words is spoken than the first, in letters per active second, in %"
    digits = 1
    needs_words = True

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take; None if the times of its words are not known, or it does not reach the last word."""
        return [self._value(one) for one in spoken]

    @staticmethod
    def _value(one: SpokenSentence) -> float | None:
        words = [word.text for word in one.words]
        if sum(map(letters, words)) < letters(one.take.text):
            return None
        return 100 * rate_drift(_prosody(one), words, [word.begin for word in one.words])


def _thirds(one: SpokenSentence) -> PartProsody:
    measured = _prosody(one)
    return by_part(measured, thirds(measured.seconds))


def _prosody(one: SpokenSentence) -> Prosody:
    return frames(one.audio, one.sample_rate).prosody
