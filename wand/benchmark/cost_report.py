"""The results of a benchmark as tables, sentences and JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wand.benchmark.measure import FIRST_SECONDS, SpeechCost, StepCost
from wand.console.tables import show_table
from wand.files.writing import write_text

MISSING = "n/a"


@dataclass(frozen=True)
class CostReport:
    """All results of one run of the benchmark.

    Args:
        model: Name of the model.
        machine: Description of the machine.
        dtype: Type of weights and cache.
        prefix: P, prefix columns.
        window: W, window size in speech columns, or W of each layer.
        columns_per_second: Speech columns per second.
        tokens_a_column: K, tokens per column (one per codebook).
        bandwidth: Memory bandwidth of the machine, in bytes per second.
        steps: Steps at the requested lengths and batch sizes.
        curve: Steps of one row, from the first column to the longest speech.
        speech: Costs besides the steps.
    """

    model: str
    machine: str
    dtype: str
    prefix: int
    window: int | list[int]
    columns_per_second: float
    tokens_a_column: int
    bandwidth: float
    steps: Sequence[StepCost]
    curve: Sequence[StepCost]
    speech: SpeechCost

    def floor_milliseconds(self, step: StepCost) -> float:
        """Time to read the step's weights and cache at the measured bandwidth. No step can be faster."""
        return step.read_bytes / self.bandwidth * 1000

    def column_milliseconds(self, step: StepCost) -> float | None:
        """Time of one column in all rows: the step and the sampling of its tokens."""
        return None if step.milliseconds is None or step.drawing is None else step.milliseconds + step.drawing

    def real_time_factor(self, step: StepCost) -> float | None:
        """Seconds that the language model takes for one second of speech in every row."""
        column = self.column_milliseconds(step)
        return None if column is None else column * self.columns_per_second / 1000

    def tokens_per_second(self, step: StepCost) -> float | None:
        """Tokens per second, over all rows."""
        column = self.column_milliseconds(step)
        return None if column is None else step.rows * self.tokens_a_column / column * 1000

    def first_audio(self, step: StepCost) -> float | None:
        """Milliseconds to the first audio: the prefix, the columns of the first second, and the codec if any."""
        column = self.column_milliseconds(step)
        if column is None:
            return None
        return self.speech.prefix + self.first_columns * column + (self.speech.codec_first or 0.0)

    @property
    def first_columns(self) -> int:
        """Number of columns in the first piece of audio."""
        return round(FIRST_SECONDS * self.columns_per_second)


def step_table(report: CostReport) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the table of steps. The first system of each place is the baseline for the others."""
    sizes = ["KV MiB", "attention", "GFLOPs"]
    titles = ["at", "system", "ms / step", "drawing", "faster", "x floor", "tokens/s", "RTF", *sizes]
    lines: list[list[str]] = []
    first: dict[tuple[float, int], StepCost] = {}
    for step in report.steps:
        place = step.seconds, step.rows
        base = first.setdefault(place, step)
        time, began = step.milliseconds, step is base
        lines.append(
            [
                f"{step.seconds:g} s, batch {step.rows}" if began else "",
                step.system,
                _number(time),
                _number(step.drawing),
                MISSING if time is None or base.milliseconds is None else f"{base.milliseconds / time:.2f}x",
                MISSING if time is None else f"{time / report.floor_milliseconds(step):.1f}",
                _number(report.tokens_per_second(step), 1),
                _number(report.real_time_factor(step), 3),
                f"{step.kv_bytes / 2**20:.2f}",
                f"{step.attention_flops / 1e9:.3f}",
                f"{step.flops / 1e9:.2f}",
            ]
        )
    return titles, lines


def speech_table(report: CostReport) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the table of first audio: how long one voice takes until its first sound."""
    decoding = report.speech.codec_first
    codec = "left out" if decoding is None else "included"
    titles = ["system", "codec", "ms to first audio", "prefix", f"{report.first_columns} columns", "decoding them"]
    lines = []
    for step in report.curve:
        if step.columns == 0:
            column = report.column_milliseconds(step)
            spoken = None if column is None else report.first_columns * column
            times = (report.first_audio(step), report.speech.prefix, spoken, decoding)
            lines.append([step.system, codec, *map(_number, times)])
    return titles, lines


def sentences(report: CostReport) -> list[str]:
    """Explanations of the tables, and the reasons for empty cells."""
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step in report.steps:
        if step.reason is not None:
            reasons[step.system, step.reason].append(f"{step.seconds:g} s x {step.rows}")
    codec = report.speech.codec_second
    return [
        f"{report.model}, {report.dtype}, prefix {report.prefix} columns, window {report.window}, on {report.machine}.",
        f"floor: time to read the weights and cache of a step at this machine's {report.bandwidth / 1e9:.1f} GB/s. "
        f"drawing: ms to sample the tokens of a step. faster: speed of the step relative to the first system at the "
        f"same place. tokens/s and RTF (seconds of the language model per second of speech) include drawing. "
        f"attention: GFLOPs of a step's attention (scores and weighted values).",
        f"Codec: {report.speech.reason}." if codec is None else f"Codec: RTF {codec / 1000:.4f}.",
        *(f"{MISSING}: {system} ({', '.join(places)}): {why}." for (system, why), places in reasons.items()),
    ]


def show(report: CostReport) -> None:
    """Print tables and explanations."""
    show_table("One step", *step_table(report), words=2)
    show_table("First audio", *speech_table(report), words=2)
    for line in sentences(report):
        print(line)


def save(report: CostReport, folder: Path) -> Path:
    """Write ``benchmark.json`` with all measured values and the figures derived from them."""
    content = asdict(report)
    for name, steps in (("steps", report.steps), ("curve", report.curve)):
        for step, plain in zip(steps, content[name], strict=True):
            plain["floor_milliseconds"] = report.floor_milliseconds(step)
            plain["real_time_factor"] = report.real_time_factor(step)
            plain["tokens_per_second"] = report.tokens_per_second(step)
            if not step.columns:
                plain["first_audio_milliseconds"] = report.first_audio(step)
    path = folder / "benchmark.json"
    write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def _number(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"
