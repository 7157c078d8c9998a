"""The tables of a test, for the console and as Markdown. Their columns are data.

To add a built-in figure, add a `Column` here. Users add their own metrics as `wand.evaluation.metric.TestMetric`.
"""

from __future__ import annotations

from collections.abc import Callable

from wand.console.tables import Column, cells, markdown, show_table
from wand.evaluation.quality import BUCKETS, EARLY, LATE, SpeechQuality
from wand.evaluation.result import MetricColumn, Row, TestResult

SYSTEM_COLUMNS = (
    Column[Row]("system", lambda row: row.system.name),
    Column[Row]("W", lambda row: "full" if row.system.window.plain is None else str(row.system.window.plain)),
)


def spoken_columns(result: TestResult) -> list[Column[Row]]:
    """Columns about the spoken sentences; empty if nothing was spoken."""
    speeches = [row.speech for row in result.rows if row.speech is not None]
    if len(speeches) < len(result.rows):
        return []
    buckets = list(dict.fromkeys(name for speech in speeches for name in speech.cer_by_length))
    unseen = [
        _spoken("unseen voice", lambda s: percent(s.cer_unseen), "unseen voice: CER in voices that were not trained on")
    ]
    words = [_spoken("WER % [95 %]", lambda s: percent(s.wer, s.wer_interval))]
    return [
        _spoken(
            "CER % [95 %]",
            lambda s: percent(s.cer, s.cer_interval),
            "CER, WER: wrong letters (words) in the recogniser's transcript, as a share of those in the text",
        ),
        *(words if all(speech.wer is not None for speech in speeches) else []),
        *(unseen if any(speech.cer_unseen is not None for speech in speeches) else []),
        *(_bucket(name, first=name == buckets[0]) for name in buckets),
        _spoken("duration", lambda s: f"{s.duration:.2f}", "duration: seconds spoken over seconds recorded"),
        _spoken(
            "early %",
            lambda s: percent(s.early),
            f"early: takes that stopped before {EARLY:g} of the recorded duration",
        ),
        _spoken(
            "no stop %",
            lambda s: percent(s.missing),
            f"no stop: takes that reached the length bound, fell silent, or lasted more than {LATE:g} of it",
        ),
        _spoken(
            "loops %", lambda s: percent(s.loops), "loops: takes that were stopped because they repeated themselves"
        ),
        *(_metric(metric) for metric in result.metrics),
    ]


def code_columns(result: TestResult) -> list[Column[Row]]:
    """Columns about recorded speech and about cost."""
    seconds, columns = list(result.rows[0].kv_bytes), list(result.rows[0].step_ms)
    return [
        Column(
            "agree %",
            lambda row: percent(row.agreement),
            "agree: labels of the test split for which the system and the teacher pick the same token",
        ),
        Column("KL", lambda row: "-" if row.kl is None else f"{row.kl:.4f}", "KL: divergence from the teacher"),
        Column("CE", lambda row: f"{row.ce:.4f}", "CE: cross-entropy; KL and CE of the same labels, in nats per label"),
        *(_cache_size(length, first=length == seconds[0]) for length in seconds),
        *(_step_time(count, first=count == columns[0]) for count in columns),
    ]


def tables(result: TestResult) -> list[tuple[str, list[Column[Row]]]]:
    """Title and columns of every table that has something to show."""
    both = (
        (f"Test split: spoken, heard by {heard_by(result)}", spoken_columns(result)),
        ("Test split: codes, cost", code_columns(result)),
    )
    return [(title, columns) for title, columns in both if columns]


def heard_by(result: TestResult) -> str:
    """The name of the recogniser, which older tables do not have."""
    return result.recogniser or "an unnamed recogniser"


def legend(result: TestResult) -> list[str]:
    """Explanation of the tables, in words."""
    meanings = dict.fromkeys(f"{row.system.kind}: {row.system.meaning}" for row in result.rows)
    lines = ["; ".join(meanings) + "."]
    speech = result.rows[0].speech
    if speech is not None:
        voices = "" if speech.cer_unseen is None else " in trained voices"
        lines.append(
            f"Heard by {heard_by(result)}. {speech.sentences} sentences{voices}, {speech.takes} takes. "
            f"Brackets: 95 % interval from resampled sentences."
        )
    return lines + ["; ".join(c.legend for c in columns if c.legend) + "." for _, columns in tables(result)]


def summary(result: TestResult) -> str:
    """What the student has won back, in one sentence; empty if there is nothing to say."""
    if not result.won_back:
        return ""
    won = ", ".join(
        f"{name if name == 'agreement' else name.upper()} {percent(won.share, won.interval)} %"
        for name, won in result.won_back.items()
    )
    return f"The student won back this share of what the untrained window lost: {won}."


def to_markdown(result: TestResult) -> str:
    """Tables, legend and summary."""
    parts = [markdown(*cells([*SYSTEM_COLUMNS, *columns], result.rows)) for _, columns in tables(result)]
    return "\n\n".join([*parts, *legend(result), summary(result)]).rstrip() + "\n"


def show(result: TestResult) -> None:
    """Print tables, legend and summary."""
    for title, columns in tables(result):
        show_table(title, *cells([*SYSTEM_COLUMNS, *columns], result.rows))
    for line in filter(None, [*legend(result), summary(result)]):
        print(line)


def percent(share: float | None, interval: tuple[float, float] | None = None) -> str:
    """Format a share and its interval in percent, as ``12.3 [10.1, 14.5]``; None gives ``-``."""
    if share is None:
        return "-"
    return _number(100 * share, None if interval is None else (100 * interval[0], 100 * interval[1]), 1)


def _number(value: float, interval: tuple[float, float] | None, digits: int) -> str:
    bounds = "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return f"{value:.{digits}f}{bounds}"


def _spoken(title: str, value: Callable[[SpeechQuality], str], legend: str = "") -> Column[Row]:
    def of_row(row: Row) -> str:
        assert row.speech is not None
        return value(row.speech)

    return Column(title, of_row, legend)


def _bucket(name: str, first: bool) -> Column[Row]:
    bounds = ", ".join(f"{bound:g}" for bound in BUCKETS)
    text = f"CER by length: sentences grouped by the length of the recording, bounds {bounds} s" if first else ""
    return _spoken(f"CER {name}", lambda speech: percent(speech.cer_by_length.get(name)), text)


def _metric(metric: MetricColumn) -> Column[Row]:
    def value(speech: SpeechQuality) -> str:
        found = speech.metrics[metric.name]
        return "-" if found is None else _number(found.mean, found.interval, metric.digits)

    return _spoken(f"{metric.title} [95 %]", value, f"{metric.title}: {metric.legend}")


def _cache_size(seconds: float, first: bool) -> Column[Row]:
    text = "MiB: cache size of one voice after that much speech" if first else ""
    return Column(f"MiB {seconds:g} s", lambda row: f"{row.kv_bytes[seconds] / 2**20:.2f}", text)


def _step_time(columns: int, first: bool) -> Column[Row]:
    text = "ms: time of a decoding step after that many columns" if first else ""
    return Column(f"ms @{columns}", lambda row: f"{row.step_ms[columns]:.2f}", text)
