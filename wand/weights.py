"""Reading original weights: safely, and refusing what does not fit with one clear line."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a file of ``torch.save`` (mapped, not copied).

    Raises:
        ValueError: If it is missing, damaged, holds code, or is not a dict of tensors.
    """
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, BadZipFile, RuntimeError, OSError) as error:
        raise ValueError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} is not a dict of tensors: it holds another kind of checkpoint")
    return state


def check_fit(own: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are not exactly those of a model.

    Raises:
        ValueError: Names the first tensor that is missing, unknown or of another shape.
    """
    for name in own:
        if name not in found:
            raise ValueError(f"{path} holds another model: it has no tensor {name!r}")
        if own[name].shape != found[name].shape:
            raise ValueError(
                f"{path} holds a model of another size: {name!r} is {[*found[name].shape]}, not {[*own[name].shape]}"
            )
    for name in found:
        if name not in own:
            raise ValueError(f"{path} holds another model: its tensor {name!r} is unknown here")


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict that has exactly the module's tensors; `path` is named in errors."""
    check_fit(module.state_dict(), state, path)
    module.load_state_dict(state)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in parts."""
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
