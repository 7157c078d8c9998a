"""The quality of spoken sentences: recognition errors, duration, and how the speech ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from wand.data.example import Example
from wand.decoding.requests import Generation
from wand.decoding.stopping import StopReason
from wand.metrics.intervals import Interval, interval, resampled_sums
from wand.metrics.paired import compare, resampled_rates
from wand.metrics.words import errors

# Speech shorter than EARLY times the recording ended early; speech longer than LATE times it missed its stop.
EARLY = 0.75
LATE = 1.4
# Upper bounds of the length buckets, in seconds of the recording.
BUCKETS = (3.0, 6.0)


@dataclass(frozen=True, slots=True)
class Take:
    """One sentence, spoken once.

    Args:
        id: Id of the utterance.
        speaker: Speaker whose voice was cloned.
        seed: Seed of the take.
        text: The target text.
        heard: The recogniser's transcript.
        ended: Why the speech ended, a `StopReason`.
        seconds: Duration of the speech.
        recorded_seconds: Duration of the recording of the same sentence; NaN if there is none.
        wrong_letters: Edit distance between `heard` and `text` in letters.
        letters: Number of letters in the text.
        wrong_words: Edit distance between `heard` and `text` in words.
        words: Number of words in the text; 0 in languages without blanks between words.
        metrics: Value of every `wand.evaluation.metric.TestMetric`, by name; None if undefined.
    """

    id: str
    speaker: str
    seed: int
    text: str
    heard: str
    ended: str
    seconds: float
    recorded_seconds: float
    wrong_letters: int
    letters: int
    wrong_words: int
    words: int
    metrics: dict[str, float | None] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """Duration divided by the recording's duration; NaN without a recording."""
        return self.seconds / self.recorded_seconds

    @property
    def early(self) -> bool:
        """Whether the speech stopped much earlier than the recording."""
        return self.ended == StopReason.STOP_TOKEN and self.duration < EARLY

    @property
    def missing(self) -> bool:
        """Whether the speech did not stop by itself, or stopped much later than the recording."""
        return self.ended in (StopReason.LENGTH, StopReason.SILENCE) or (not self.looped and self.duration > LATE)

    @property
    def looped(self) -> bool:
        """Whether the speech was stopped because it repeated itself."""
        return self.ended == StopReason.LOOP


def judge(example: Example, spoken: Generation, heard: str, seed: int, frame_rate: float, language: str = "en") -> Take:
    """Compare the transcript with the text and make a `Take`. An example without codes has no recording."""
    wrong_letters, letters, wrong_words, words = errors(heard, example.text, language)
    return Take(
        id=example.id,
        speaker=example.speaker,
        seed=seed,
        text=example.text,
        heard=heard,
        ended=str(spoken.reason),
        seconds=spoken.codes.shape[1] / frame_rate,
        recorded_seconds=example.codes.shape[1] / frame_rate or math.nan,
        wrong_letters=wrong_letters,
        letters=letters,
        wrong_words=wrong_words,
        words=words,
    )


@dataclass(frozen=True, slots=True)
class MetricMean:
    """One metric over many takes.

    Args:
        mean: Mean over the takes that have a value.
        interval: 95 % interval of the mean, from resampled sentences; None if only one sentence has a value.
    """

    mean: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class SpeechQuality:
    """Figures over all takes of one system. Rates are shares: 0.1 is 10 %.

    Args:
        sentences: Number of distinct sentences in trained voices.
        takes: Number of takes of these sentences.
        cer: Letter error rate of these takes.
        cer_interval: 95 % interval of `cer`, from resampled sentences; None with one sentence.
        wer: Word error rate of these takes; None for languages without blanks between words.
        wer_interval: 95 % interval of `wer`, from resampled sentences; None as `wer`, and with one sentence.
        cer_unseen: CER in voices that were not trained on; None if there are none.
        cer_by_length: CER for each range of recording lengths.
        duration: Seconds spoken divided by seconds recorded.
        early: Share of takes that stopped early.
        missing: Share of takes that missed their stop.
        loops: Share of takes that ran into a loop.
        metrics: Every metric by name; None if no take has a value.
    """

    sentences: int
    takes: int
    cer: float
    cer_interval: Interval | None
    wer: float | None
    wer_interval: Interval | None
    cer_unseen: float | None
    cer_by_length: dict[str, float]
    duration: float
    early: float
    missing: float
    loops: float
    metrics: dict[str, MetricMean | None] = field(default_factory=dict)


def summarise(takes: Sequence[Take], unseen: frozenset[str] = frozenset()) -> SpeechQuality:
    """The figures of one system.

    Args:
        takes: All takes of the system.
        unseen: Speakers that were not trained on. Their takes count only in `cer_unseen`.
    """
    seen = in_trained_voices(takes, unseen)
    others = [take for take in takes if take.speaker in unseen]
    sums, words = resampled_sums(counts(seen)), sum(take.words for take in seen)
    buckets = {name: [t for t in seen if low <= t.recorded_seconds < high] for name, low, high in length_buckets()}
    return SpeechQuality(
        sentences=len({take.id for take in seen}),
        takes=len(seen),
        cer=error_rate(seen),
        cer_interval=_interval(sums[:, 0] / sums[:, 1]),
        wer=sum(t.wrong_words for t in seen) / words if words else None,
        wer_interval=_interval(sums[:, 2] / sums[:, 3]) if words else None,
        cer_unseen=error_rate(others) if others and len(others) < len(takes) else None,
        cer_by_length={name: error_rate(part) for name, part in buckets.items() if part},
        duration=sum(t.seconds for t in seen) / sum(t.recorded_seconds for t in seen),
        early=sum(t.early for t in seen) / len(seen),
        missing=sum(t.missing for t in seen) / len(seen),
        loops=sum(t.looped for t in seen) / len(seen),
        metrics={name: metric_mean(seen, name) for name in seen[0].metrics},
    )


def in_trained_voices(takes: Sequence[Take], unseen: frozenset[str]) -> list[Take]:
    """The takes of speakers that were trained on; all takes if there are no such speakers."""
    return [take for take in takes if take.speaker not in unseen] or list(takes)


def metric_mean(takes: Sequence[Take], name: str) -> MetricMean | None:
    """Mean of a metric and its 95 % interval. All takes of a sentence are resampled together.

    Args:
        takes: The takes.
        name: Name of the metric.

    Returns:
        The mean, or None if no take has a value.
    """
    sums: dict[str, Tensor] = {}
    for take in takes:
        if (value := take.metrics[name]) is not None:
            own = torch.tensor([value, 1.0], dtype=torch.float64)
            sums[take.id] = sums.get(take.id, torch.zeros(2, dtype=torch.float64)) + own
    if not sums:
        return None
    by_sentence = torch.stack([sums[sentence] for sentence in sorted(sums)])
    total, count = by_sentence.sum(0).tolist()
    resampled = resampled_sums(by_sentence)
    return MetricMean(total / count, _interval(resampled[:, 0] / resampled[:, 1]))


def _interval(samples: Tensor) -> Interval | None:
    """The 95 % interval of resampled figures; None if there is none."""
    bounds = interval(samples)
    return bounds if all(map(math.isfinite, bounds)) else None


def error_rate(takes: Sequence[Take]) -> float:
    """CER over all letters of all takes; NaN without any."""
    letters = sum(t.letters for t in takes)
    return sum(t.wrong_letters for t in takes) / letters if letters else math.nan


def counts(takes: Sequence[Take]) -> Tensor:
    """Wrong letters, letters, wrong words and words of each of N sentences, over all seeds: float64 ``[N, 4]``."""
    by_sentence: dict[str, Tensor] = {}
    for take in takes:
        own = torch.tensor([take.wrong_letters, take.letters, take.wrong_words, take.words], dtype=torch.float64)
        by_sentence[take.id] = by_sentence.get(take.id, torch.zeros(4, dtype=torch.float64)) + own
    return torch.stack([by_sentence[name] for name in sorted(by_sentence)])


def won_back(
    teacher: Sequence[Take], untrained: Sequence[Take], student: Sequence[Take], unseen: frozenset[str] = frozenset()
) -> tuple[float, Interval] | None:
    """The share of the untrained window's CER loss that the student has won back, and its 95 % interval.

    The sentences of the three systems are resampled together. Returns None if the untrained window lost nothing,
    or so little that its 95 % interval includes nothing: a share of it could be any number.
    """
    parts = [in_trained_voices(takes, unseen) for takes in (teacher, untrained, student)]
    letters = torch.stack([counts(part)[:, :2] for part in parts], dim=1)
    share = compare(resampled_rates(letters).unbind(1))
    return None if share is None else (share.value, share.interval)


def length_buckets() -> list[tuple[str, float, float]]:
    """Name, lower bound and upper bound of every range of recording lengths, in seconds."""
    edges = (0.0, *BUCKETS, float("inf"))
    names = [f"< {BUCKETS[0]:g} s", *(f"{a:g}-{b:g} s" for a, b in pairwise(BUCKETS))]
    names.append(f"> {BUCKETS[-1]:g} s")
    return [(name, low, high) for name, (low, high) in zip(names, pairwise(edges), strict=True)]
