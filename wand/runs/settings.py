"""Settings of a training run, as a checkpoint stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from wand.checks import check_number, plain
from wand.distillation.terms import LossTerms
from wand.files.typed import build
from wand.lora import LoraSettings

# Float32 must hold the product of learning rate and weight decay.
LARGEST = 1e18


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with a linear warm-up, then a cosine decay to zero over the rest of the training.

    Args:
        learning_rate: Peak learning rate, after the warm-up (paper: 1e-5, for models of half a billion parameters).
        weight_decay: Weight decay of matrices; vectors (norms, biases) have none.
        warmup: Length of the warm-up as a share of the training steps, in ``[0, 1)``.

    Raises:
        ValueError: If a setting is out of range or not finite.
    """

    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    warmup: float = 0.03

    def __post_init__(self) -> None:
        hint = "float32 must hold the product of both"
        check_number("model.optimizer.learning_rate", self.learning_rate, f"(0, {LARGEST:g}]", hint)
        check_number("model.optimizer.weight_decay", self.weight_decay, f"[0, {LARGEST:g}]", hint)
        check_number("model.optimizer.warmup", self.warmup, "[0, 1)", "it is a share of the training steps")


@dataclass(frozen=True)
class RunSettings:
    """All settings of a `WandModule` except its backbone, as a checkpoint stores them.

    Args:
        window: Final window W in speech columns: one for all layers, or one for each. None is full attention.
        teacher: ``copy``, ``self``, a run folder or checkpoint, or None.
        gradient_checkpointing: Whether layers store only their inputs and are recomputed in the backward pass.
        loss: Settings of the training loss.
        optimizer: Settings of the optimizer and the learning rate schedule.
        lora: The adapters that are trained; None trains the weights themselves.

    Raises:
        ValueError: If there is no teacher and the weight of the cross-entropy is 0.
    """

    window: int | list[int] | None = 32
    teacher: str | None = "copy"
    gradient_checkpointing: bool = False
    loss: LossTerms = field(default_factory=LossTerms)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    lora: LoraSettings | None = None

    def __post_init__(self) -> None:
        if self.teacher is None and self.loss.ce_weight == 0:
            raise ValueError(
                "model.teacher is null and model.loss.ce_weight is 0, so there is nothing to learn from: set one of "
                "them"
            )

    def to_plain(self) -> dict[str, Any]:
        """The settings as nested dictionaries of plain values."""
        values: dict[str, Any] = plain(asdict(self))
        return values

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Read settings that `to_plain` or an older version of wand stored; `backbone` and `pretrained` are ignored."""
        known = group_settings({name: values[name] for name in values if name not in ("backbone", "pretrained")})
        return build(cls, known, "settings")


# Settings that were directly under `model` in the first runs, and the group where each is now.
GROUPED = {
    **dict.fromkeys(("ce_weight", "kd_weight", "skew", "temperature", "codebook_weights"), "loss"),
    **dict.fromkeys(("learning_rate", "weight_decay", "warmup"), "optimizer"),
}


def group_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Move the settings named in `GROUPED` into their groups, as the first checkpoints stored them ungrouped."""
    grouped: dict[str, Any] = {"loss": {}, "optimizer": {}}
    for name, value in values.items():
        if name in GROUPED:
            grouped[GROUPED[name]][name] = value
        else:
            grouped[name] = value
    return grouped


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to the dotted names that users type: ``{"loss.skew": 0.1, ...}``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
