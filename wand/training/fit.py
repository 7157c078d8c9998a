"""Whether a checkpoint fits a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Size

from wand.lora import LoraSettings
from wand.runs.settings import RunSettings


def check_fit(
    saved: dict[str, Any],
    saved_shapes: Mapping[str, Size],
    own: dict[str, Any],
    lora: LoraSettings | None,
    own_shapes: Mapping[str, Size],
) -> None:
    """Check that a checkpoint holds exactly the tensors of a model.

    Args:
        saved: Settings of the checkpoint, plain.
        saved_shapes: Shapes of the tensors in the checkpoint.
        own: `Backbone.spec` of the model.
        lora: Adapters of the model.
        own_shapes: Shapes of the model's tensors, without those of its teacher.

    Raises:
        ValueError: If it does not.
    """
    backbone = {name: saved["backbone"][name] for name in ("class_path", "architecture")}
    adapters = RunSettings.from_plain(saved).lora
    if not _describes(backbone, own):
        raise ValueError(f"the checkpoint holds another backbone: {_describe_difference(backbone, own)}")
    if adapters != lora:
        raise ValueError(
            f"model.lora is {lora}, but the checkpoint was trained with {adapters}: leave it as it was, or start a new "
            f"run"
        )
    if difference := sorted(own_shapes.keys() ^ saved_shapes.keys()):
        raise ValueError(f"the checkpoint does not fit the model: only one has the tensor {difference[0]!r}")
    for name, shape in saved_shapes.items():
        if shape != own_shapes[name]:
            raise ValueError(
                f"the checkpoint does not fit the model: {name!r} is {[*shape]}, not {[*own_shapes[name]]}"
            )


def _describes(saved: Any, own: Any) -> bool:
    """Whether a stored spec describes a model. Settings that were added since then are missing in it."""
    if isinstance(saved, dict) and isinstance(own, dict):
        return saved.keys() <= own.keys() and all(_describes(value, own[name]) for name, value in saved.items())
    return bool(saved == own)


def _describe_difference(saved: dict[str, Any], own: dict[str, Any]) -> str:
    """Name the first difference between two backbone specs."""
    if saved["class_path"] != own["class_path"]:
        return f"{saved['class_path']}, not {own['class_path']}"
    for key, value in saved["architecture"].items():
        if own["architecture"].get(key) != value:
            return f"its {key} is {value}, not {own['architecture'].get(key)}"
    return "its architecture has other settings"
