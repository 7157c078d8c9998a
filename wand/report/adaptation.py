"""What was adapted, and what came out, in words. Everything is computed from the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from wand.evaluation.result import Row, TestResult
from wand.evaluation.result_table import percent
from wand.runs.checkpoints import select_setting


@dataclass(frozen=True)
class Tile:
    """A figure that is shown large.

    Args:
        label: What it is, with its unit.
        value: The student's value.
        beside: The values of the others.
    """

    label: str
    value: str
    beside: str


@dataclass(frozen=True)
class Adaptation:
    """The model of a run and its window.

    Args:
        model: Class of the model.
        pretrained: Its weights; None if they were random.
        window: Sizes of the window, as plain values.
        lora: Whether only adapters were trained.
    """

    model: str
    pretrained: str | None
    window: Any
    lora: bool

    @classmethod
    def of_config(cls, config: DictConfig, file: str) -> Adaptation | None:
        """Read the adaptation from the config of a run; None if the config describes no model."""
        backbone = select_setting(config, "model.backbone", file)
        spec = backbone if isinstance(backbone, Mapping) else {"class_path": backbone}
        if not spec.get("class_path"):
            return None
        settings = spec.get("init_args") or {}
        return cls(
            model=str(spec["class_path"]).rpartition(".")[2],
            pretrained=settings.get("pretrained"),
            window=select_setting(config, "model.window", file),
            lora=select_setting(config, "model.lora", file) is not None,
        )

    @property
    def title(self) -> str:
        """The model and its window."""
        return f"{self.model} with {window_in_words(self.window)}"

    def sentence(self, result: TestResult | None) -> str:
        """One sentence on what was adapted and what came out."""
        weights = f" (weights: {self.pretrained})" if self.pretrained else ""
        how = " with LoRA" if self.lora else ""
        said = f"{self.model}{weights} was adapted{how} to {window_in_words(self.window)}"
        rows = {} if result is None else {row.system.name: row for row in result.rows}
        outcome = [part for part in (_quality(rows), _memory(rows)) if part]
        return f"{said}: {'; '.join(outcome)}." if outcome else f"{said}."


def tiles(result: TestResult) -> list[Tile]:
    """The figures that are shown large: error rate, cache and step of the student."""
    rows = {row.system.name: row for row in result.rows}
    student = rows.get("student")
    if student is None:
        return []
    others = [row for name, row in rows.items() if name in ("teacher", "untrained")]
    made = []
    if student.speech is not None:
        spoken = [(row.system.name, row.speech) for row in others if row.speech is not None]
        made.append(
            Tile(
                "wrong letters (CER)",
                f"{percent(student.speech.cer)} %",
                _beside([(n, f"{percent(s.cer)} %") for n, s in spoken]),
            )
        )
    teacher = [row for row in others if row.system.name == "teacher"]
    if student.kv_bytes:
        seconds = max(student.kv_bytes)
        texts = [(row.system.name, f"{row.kv_bytes[seconds] / 2**20:.2f} MiB") for row in (student, *teacher)]
        made.append(Tile(f"KV cache of one voice after {seconds:g} s", texts[0][1], _beside(texts[1:])))
    if student.step_ms:
        columns = max(student.step_ms)
        texts = [(row.system.name, f"{row.step_ms[columns]:.2f} ms") for row in (student, *teacher)]
        made.append(Tile(f"decoding step after {columns} columns", texts[0][1], _beside(texts[1:])))
    return made


def window_in_words(plain: Any) -> str:
    """The window of a config or a table in words."""
    if plain is None:
        return "full attention"
    if isinstance(plain, int):
        return f"a window of {plain} speech columns"
    if isinstance(plain, Sequence) and plain and all(isinstance(size, int) for size in plain):
        return f"windows of {min(plain)} to {max(plain)} speech columns, one for each layer"
    return "windows that differ between the layers"


def _beside(values: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values)


def _quality(rows: Mapping[str, Row]) -> str:
    student, teacher, untrained = (rows.get(name) for name in ("student", "teacher", "untrained"))
    if student is None or student.speech is None:
        return ""
    said = f"a recogniser hears {percent(student.speech.cer)} % of the letters wrong"
    if student.speech.cer_interval is not None:
        low, high = student.speech.cer_interval
        said += f" (95 % interval {percent(low)} to {percent(high)} %)"
    if teacher is not None and teacher.speech is not None:
        said += f", against {percent(teacher.speech.cer)} % with the original model"
    if untrained is not None and untrained.speech is not None:
        said += f" and {percent(untrained.speech.cer)} % with its weights under the window before training"
    return said


def _memory(rows: Mapping[str, Row]) -> str:
    student, teacher = rows.get("student"), rows.get("teacher")
    if student is None or teacher is None or not student.kv_bytes:
        return ""
    seconds = max(student.kv_bytes)
    own, full = (row.kv_bytes[seconds] / 2**20 for row in (student, teacher))
    return f"the cache of one voice after {seconds:g} s of speech takes {own:.2f} MiB instead of {full:.2f} MiB"
