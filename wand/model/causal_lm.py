"""A model as a causal language model of transformers over token ids, as serving engines open it, and its config.

Shapes: V rows of the speech vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from wand.files.writing import write_text
from wand.model.batch import Conditioning


@dataclass(frozen=True, slots=True)
class PromptIds:
    """How the ids of the parts of a prompt become ids of the model.

    Args:
        order: Names of the parts, in the order of the prompt.
        controls: The id of each part that is one control token.
        offsets: What to add to the ids of each other part.
    """

    order: list[str]
    controls: dict[str, int]
    offsets: dict[str, int]


def own_ids(conditioning: Conditioning) -> Tensor:
    """The ids of a conditioning whose ids are those of the model."""
    return conditioning["ids"]


@dataclass(frozen=True, slots=True, eq=False)
class CausalLM:
    """A causal language model whose prompt is the prefix, and whose further ids are the columns of the speech.

    Args:
        row_ids: ``[V]``, the token id of each row of the speech vocabulary.
        folder: Folder of the model inside an export.
        write: Writes the model into a folder in a dtype: ``config.json``, weights and tokenizer. None if
            `Backbone.save_pretrained` writes them.
        bias: ``[V]``, to be added to the logits of the rows; None adds nothing.
        prompt: How the prompt is made; None if the tokenizer in the folder reads the whole prompt.
        prompt_ids: The ids ``[P]`` of the prompt of a conditioning.
        columns_per_text_id: Minimum and maximum number of speech columns for each id of the text; None if the model has
            no such rule.
    """

    row_ids: Tensor
    folder: str = "."
    write: Callable[[Path, torch.dtype], None] | None = None
    bias: Tensor | None = None
    prompt: PromptIds | None = None
    prompt_ids: Callable[[Conditioning], Tensor] = own_ids
    columns_per_text_id: tuple[int, int] | None = None


def write_config(folder: Path, config: PretrainedConfig, dtype: torch.dtype, **changed: Any) -> None:
    """Write ``config.json`` of a model of transformers, under the names of version 4 and those of version 5.

    Version 4 ignores ``rope_parameters`` and ``dtype``: without its own names it would silently use its defaults.

    Args:
        folder: Folder of the model.
        config: The configuration.
        dtype: The dtype of the weights in the folder.
        changed: Values that differ from the configuration.
    """
    name = str(dtype).removeprefix("torch.")
    values = {**config.to_dict(), **_version_4_rotations(config), "dtype": name, "torch_dtype": name, **changed}
    write_text(folder / "config.json", json.dumps(values, indent=2) + "\n")


def _version_4_rotations(config: PretrainedConfig) -> dict[str, Any]:
    """What version 5 keeps in ``rope_parameters``; nothing if each type of layer has its own there."""
    scaling = dict(getattr(config, "rope_parameters", None) or {})
    if "rope_type" not in scaling:
        return {}
    moved = {key: scaling.pop(key) for key in ("rope_theta", "partial_rotary_factor") if key in scaling}
    return {**moved, "rope_scaling": None if scaling["rope_type"] == "default" else scaling}
