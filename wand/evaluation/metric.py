"""Metrics that users can add to the table of a test."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wand.alignment.times import TimedWord
from wand.data.shards import Example
from wand.evaluation.quality import Take


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class SpokenSentence:
    """One take of a system, with the recording of the same sentence.

    Args:
        example: The prepared sentence: text, speaker and recorded codes.
        take: The transcript of the take and how the speech ended.
        codes: Codes that the system spoke, ``[K, F]``.
        audio: Audio of `codes`, float32 ``[N]`` on the CPU; empty if nothing was spoken.
        recorded: The recording after a round trip through the codec, float32 ``[M]`` on the CPU; empty if there
            is none.
        sample_rate: Sample rate of `audio`, `recorded` and `reference`, in Hz.
        reference: The voice that was cloned, float32 ``[R]`` on the CPU; None if its sound is not known.
        words: The words of the text that were reached, with their times in `audio`; empty if no metric needs them, or
            they are not known.
    """

    example: Example
    take: Take
    codes: Tensor
    audio: Tensor
    recorded: Tensor
    sample_rate: int
    reference: Tensor | None = None
    words: tuple[TimedWord, ...] = ()


class TestMetric(ABC):
    """Base class of metrics that give each spoken sentence a number.

    Each metric becomes a column of the spoken table: the mean over all takes in trained voices with its 95 % interval.
    The value of every take is written to ``takes.jsonl``. To use a metric, name its class in the config::

        table:
          metrics:
            - class_path: my_package.Loudness
              init_args: {...}

    Example::

        class Loudness(TestMetric):
            name = "loudness"
            title = "dB"
            legend = "mean level of the speech, relative to full scale"

            def measure(self, spoken):
                return [10 * math.log10(s.audio.square().mean() + 1e-9) for s in spoken]

    Attributes:
        name: Key of the metric in JSON files.
        title: Title of the column.
        legend: Meaning of the column in words, with its unit.
        digits: Decimal places in the table.
        needs_words: Whether `SpokenSentence.words` is read. Only `wand evaluate` finds them.
    """

    __test__ = False  # tells pytest that this is not a class of tests

    name: ClassVar[str]
    title: ClassVar[str]
    legend: ClassVar[str]
    digits: ClassVar[int] = 2
    needs_words: ClassVar[bool] = False

    @abstractmethod
    def measure(self, spoken: Sequence[SpokenSentence]) -> Sequence[float | None]:
        """Measure some takes of one system.

        Several processes share the sentences, so a value must not depend on the other sentences.

        Args:
            spoken: The takes.

        Returns:
            One value per take, in the same order; None or NaN if a value is undefined.
        """


def measure_all(metrics: Sequence[TestMetric], spoken: Sequence[SpokenSentence]) -> list[dict[str, float | None]]:
    """The values of every take, by the name of the metric.

    Raises:
        ValueError: If a metric does not return exactly one value per take.
    """
    values: list[dict[str, float | None]] = [{} for _ in spoken]
    for metric in metrics:
        measured = metric.measure(spoken) if spoken else []
        if len(measured) != len(spoken):
            raise ValueError(
                f"metric {metric.name!r} returned {len(measured)} values for {len(spoken)} sentences: "
                f"return one value per sentence, or None for an undefined value"
            )
        for own, value in zip(values, measured, strict=True):
            own[metric.name] = None if value is None or math.isnan(value) else float(value)
    return values


def check_metrics(metrics: Sequence[TestMetric]) -> None:
    """Refuse two metrics with the same name.

    Raises:
        ValueError: If two metrics have the same name; the message gives the name.
    """
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two metrics are named {name!r}: remove one, or rename it")
