"""Distances from the recording of the same sentence, after time warping."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from wand.evaluation.kept import KeptBySound
from wand.evaluation.metric import SpokenSentence, TestMetric
from wand.metrics.recorded import Distances, SoundFrames, frame_distances

# Several metrics, and the takes of several systems, read the frames of a sound.
frames = KeptBySound(SoundFrames.of)
_measured: WeakKeyDictionary[SpokenSentence, Distances] = WeakKeyDictionary()


def measured(spoken: SpokenSentence) -> Distances:
    """The distances of a take. They are kept as long as the take, because several metrics read them."""
    if spoken not in _measured:
        sounds = (frames(sound, spoken.sample_rate) for sound in (spoken.audio, spoken.recorded))
        _measured[spoken] = frame_distances(*sounds)
    return _measured[spoken]


class Mcd(TestMetric):
    """Mel-cepstral distortion (see `wand.metrics.recorded.distances`)."""

    name = "mcd"
    title = "MCD dB"
    legend = "mel-cepstral distortion from the recording (c1 to c24, after time warping), in dB"

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take."""
        return [measured(one).mcd for one in spoken]


class F0(TestMetric):
    """Error of the fundamental frequency (see `wand.metrics.recorded.distances`)."""

    name = "f0"
    title = "F0 st"
    legend = "root mean square difference of pitch from the recording where both have voice, in semitones"

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take."""
        return [measured(one).f0 for one in spoken]


class Voicing(TestMetric):
    """Error of voicing (see `wand.metrics.recorded.distances`)."""

    name = "voicing"
    title = "voicing %"
    legend = "frames where only one of speech and recording has voice, in %"
    digits = 1

    def measure(self, spoken: Sequence[SpokenSentence]) -> list[float | None]:
        """One value per take."""
        return [100 * measured(one).voicing for one in spoken]
