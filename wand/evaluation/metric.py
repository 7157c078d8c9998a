"""Metrics that users add to the table of a test."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wand.data.shards import Example
from wand.evaluation.quality import Take


@dataclass(frozen=True, slots=True, eq=False)
class SpokenSentence:
    """One take of a system beside the recording of the same sentence.

    Args:
        example: The sentence as it was prepared: text, speaker and recorded codes.
        take: What the recogniser heard and how the speech ended.
        codes: What the system spoke, ``[K, F]``.
        audio: The sound of `codes`, float32 ``[N]`` on the CPU; empty if nothing was spoken.
        recorded: The recording as the codec gives it back, float32 ``[M]`` on the CPU.
        sample_rate: Of both sounds, in Hz.
    """

    example: Example
    take: Take
    codes: Tensor
    audio: Tensor
    recorded: Tensor
    sample_rate: int


class TestMetric(ABC):
    """A number that says how good a spoken sentence is.

    Each metric becomes a column of the spoken table: the mean over all takes in trained voices with its 95 % interval.
    The value of every take is written to ``takes.jsonl``. Name the class in the config, and `ComparisonTable` uses it::

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
        title: Of the column.
        legend: What the column says, in words, with its unit.
        digits: Decimal places in the table.
    """

    __test__ = False  # not a class of tests, whatever pytest makes of its name

    name: ClassVar[str]
    title: ClassVar[str]
    legend: ClassVar[str]
    digits: ClassVar[int] = 2

    @abstractmethod
    def measure(self, spoken: Sequence[SpokenSentence]) -> Sequence[float | None]:
        """Measure some takes of one system.

        Several processes share the sentences, so a value must not depend on the other sentences.

        Args:
            spoken: The takes.

        Returns:
            One value per take, in the same order; None or NaN where it is undefined.
        """


def measure_all(metrics: Sequence[TestMetric], spoken: Sequence[SpokenSentence]) -> list[dict[str, float | None]]:
    """The values of every take, by the name of the metric.

    Raises:
        ValueError: If a metric returns another number of values than there are takes.
    """
    values: list[dict[str, float | None]] = [{} for _ in spoken]
    for metric in metrics:
        measured = metric.measure(spoken) if spoken else []
        if len(measured) != len(spoken):
            raise ValueError(
                f"metric {metric.name!r} returned {len(measured)} values for {len(spoken)} sentences: "
                f"return one value per sentence, None where it is undefined"
            )
        for own, value in zip(values, measured, strict=True):
            own[metric.name] = None if value is None or math.isnan(value) else float(value)
    return values


def check_metrics(metrics: Sequence[TestMetric]) -> None:
    """Refuse two metrics of one name.

    Raises:
        ValueError: Names the metric.
    """
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two metrics are named {name!r}: leave one out, or give it another name")
