"""The file in the folder of a run or an export that names its alignment heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wand.files.plain_values import read_json
from wand.files.writing import write_text
from wand.model.alignment import read_heads
from wand.model.backbone import Backbone

RECORD = "alignment.json"
HEADS = "alignment_heads"


def write_record(folder: Path, backbone: Backbone, about: dict[str, Any]) -> Path:
    """Note the alignment heads of a model in its folder. From then on, they replace those that its weights came with.

    Args:
        folder: Run folder, or folder of an export.
        backbone: The model, with the heads.
        about: How they were found, in plain values.

    Returns:
        The file.
    """
    values = {HEADS: [[*head] for head in backbone.alignment_heads], **about}
    write_text(folder / RECORD, json.dumps(values, indent=2) + "\n")
    return folder / RECORD


def apply_record(folder: Path | None, backbone: Backbone) -> None:
    """Set the alignment heads of a model to those that are noted in its folder, if any are.

    Raises:
        ValueError: If the file is damaged, or the model has no such head.
    """
    if folder is None or not (folder / RECORD).is_file():
        return
    path = folder / RECORD
    values = read_json(path)
    if HEADS not in values:
        raise ValueError(f"{path} names no {HEADS}: remove it, or name the heads")
    backbone.alignment_heads = read_heads(values[HEADS], backbone.decoder.config, f"{path}: {HEADS}")
