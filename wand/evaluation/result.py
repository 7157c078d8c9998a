"""The result of a test, in plain values that are written to one JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from wand.attention import AttentionWindow, LayerWindows, Windows
from wand.evaluation.metric import TestMetric
from wand.evaluation.quality import MetricMean, SpeechQuality
from wand.evaluation.systems import ComparedSystem
from wand.metrics.intervals import Interval


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one system.

    Args:
        system: The system.
        ce: Cross-entropy of reference codes, in nats per label.
        agreement: Share of labels for which the system's most likely token is the teacher's; None without a teacher.
        kl: True KL divergence from the teacher, in nats per label; None without a teacher.
        kv_bytes: Bytes of one row's cache, by seconds of speech.
        step_ms: Milliseconds of a decoding step, by columns spoken before it.
        speech: Quality of the system's speech; None if nothing was spoken.
    """

    system: ComparedSystem
    ce: float
    agreement: float | None
    kl: float | None
    kv_bytes: dict[float, int]
    step_ms: dict[int, float]
    speech: SpeechQuality | None = None


@dataclass(frozen=True, slots=True)
class WonBack:
    """The share of the untrained window's loss in quality that the student has won back.

    Args:
        share: 0 is as bad as the untrained window, 1 is as good as the teacher.
        interval: 95 % interval of the share, from resampled sentences; None for measures without one.
    """

    share: float
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """The column of a metric: the attributes of its `wand.evaluation.metric.TestMetric`."""

    name: str
    title: str
    legend: str
    digits: int

    @classmethod
    def of(cls, metric: TestMetric) -> Self:
        """The column of a metric."""
        return cls(metric.name, metric.title, metric.legend, metric.digits)


@dataclass(frozen=True, slots=True)
class TestResult:
    """All figures of a test.

    Args:
        rows: One row per system.
        won_back: What the student has won back, by measure; empty unless teacher, untrained window and student are
            all compared.
        metrics: Metrics that users added.
        recogniser: Name of the recogniser that heard the speech; None if nothing was spoken.
    """

    __test__ = False  # tells pytest that this is not a class of tests

    rows: Sequence[Row]
    won_back: Mapping[str, WonBack]
    metrics: Sequence[MetricColumn] = ()
    recogniser: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        rows = [
            {
                **asdict(row),
                "kv_bytes": {f"{seconds:g}": size for seconds, size in row.kv_bytes.items()},
                "step_ms": {str(columns): time for columns, time in row.step_ms.items()},
            }
            for row in self.rows
        ]
        won_back = {name: asdict(won) for name, won in self.won_back.items()}
        metrics = [asdict(metric) for metric in self.metrics]
        return {"recogniser": self.recogniser, "rows": rows, "won_back": won_back, "metrics": metrics}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild a result from `to_json`.

        Args:
            content: The value of `to_json`, as `json.loads` gives it.
        """
        return cls(
            rows=tuple(_row(row) for row in content["rows"]),
            won_back={
                name: WonBack(won["share"], _interval(won["interval"])) for name, won in content["won_back"].items()
            },
            # Older tables have neither metrics nor the name of the recogniser.
            metrics=tuple(MetricColumn(**metric) for metric in content.get("metrics", ())),
            recogniser=content.get("recogniser"),
        )


def _row(plain: Mapping[str, Any]) -> Row:
    system, speech = plain["system"], plain["speech"]
    return Row(
        system=ComparedSystem(system["name"], system["weights"], _windows(system["window"])),
        ce=plain["ce"],
        agreement=plain["agreement"],
        kl=plain["kl"],
        kv_bytes={float(seconds): size for seconds, size in plain["kv_bytes"].items()},
        step_ms={int(columns): time for columns, time in plain["step_ms"].items()},
        speech=None if speech is None else _speech(speech),
    )


def _windows(plain: Mapping[str, Any]) -> Windows:
    if "layers" in plain:
        return LayerWindows(tuple(AttentionWindow(**window) for window in plain["layers"]))
    return AttentionWindow(**plain)


def _speech(plain: Mapping[str, Any]) -> SpeechQuality:
    intervals = {name: _interval(plain[name]) for name in ("cer_interval", "wer_interval")}
    metrics = {
        name: None if mean is None else MetricMean(mean["mean"], _interval(mean["interval"]))
        for name, mean in plain.get("metrics", {}).items()
    }
    return SpeechQuality(**{**plain, **intervals, "metrics": metrics})


def _interval(bounds: Sequence[float] | None) -> Interval | None:
    if bounds is None:
        return None
    low, high = bounds
    return low, high
