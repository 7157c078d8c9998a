"""Damage the folder of a model of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file


def cut_weights(folder: Path) -> None:
    """Keep the first bytes of the weights."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def change_config(folder: Path, **changed: Any) -> None:
    """Give settings other values."""
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))


def leave_out(folder: Path, part: str) -> None:
    """Leave out the weights whose names contain a part. There must be some."""
    weights = folder / "model.safetensors"
    state = load_file(weights)
    kept = {name: tensor for name, tensor in state.items() if part not in name}
    assert len(kept) < len(state)
    save_file(kept, weights, {"format": "pt"})
