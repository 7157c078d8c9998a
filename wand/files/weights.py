"""Read and write original weights. Files are read without running code and checked against the model."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from zipfile import is_zipfile

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wand.files.plain_values import read_json
from wand.files.writing import replacing, write_text
from wand.finite import check_weights

# Beginning of a file that git fetched without its content.
LFS_POINTER = b"version https://git-lfs"
# The dtypes of weights, by their names in safetensors.
FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def read_weights(path: Path, below: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` file, or of a file written by ``torch.save``.

    A file of ``torch.save`` is memory-mapped, unless it has the format from before PyTorch 1.6.

    Args:
        path: The file.
        below: Key that holds the tensors in a file written by ``torch.save``; ignored if the file does not have it.

    Raises:
        ValueError: If the file is missing, damaged, contains code, or is not a dict of tensors.
    """
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise _unreadable(path, "it is damaged, or it contains code, which is never run") from error
    except Exception as error:  # a damaged pickle raises many kinds of errors
        raise _unreadable(path) from error
    if below is not None and isinstance(state, dict):
        state = state.get(below, state)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} is not a dict of tensors: it is another kind of checkpoint")
    return state


def _unreadable(path: Path, reason: str = "it is damaged, download it again") -> ValueError:
    with path.open("rb") as file:
        is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    if is_pointer:
        reason = "it is a Git LFS pointer, run `git lfs pull`"
    return ValueError(f"{path} cannot be read as weights: {reason}")


def check_fit(own: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors are exactly those of a model, and finite.

    Raises:
        ValueError: If a tensor is missing, unknown, of another shape, or holds NaN or an infinite value. The message
            names the first one.
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
    check_weights(found, path)


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict that must have exactly the tensors of the module. Errors name `path`."""
    check_fit(module.state_dict(), state, path)
    module.load_state_dict(state, strict=False)  # of a model with LoRA, the state dict has only what is trained


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    if not path.is_file():
        raise ValueError(f"no weights at {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Larger models are written in parts of at most this size, as in transformers.
SHARD_SIZE = "5GB"


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a model: one file, or the parts that an index names.

    Raises:
        ValueError: If there are no weights, or a part is missing.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise ValueError(f"no weights at {folder}: it should hold {SINGLE}, or {INDEX} and the parts that it names")
    try:
        parts = [folder / part for part in sorted(set(read_json(folder / INDEX)["weight_map"].values()))]
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} names no parts (weight_map): download it again") from error
    if not parts:
        raise ValueError(f"{folder / INDEX} names no parts (weight_map is empty): download it again")
    for part in parts:
        if not part.is_file():
            raise ValueError(f"the weights at {folder} are incomplete: {part.name} is missing")
    return parts


def read_weight_folder(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a model folder."""
    return {name: tensor for path in weight_files(folder) for name, tensor in read_weights(path).items()}


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of most of the floating-point numbers on disk, in the first file."""
    path = weight_files(folder)[0]
    sizes: Counter[str] = Counter()
    try:
        with safe_open(path, framework="pt") as file:
            for tensor in map(file.get_slice, file.keys()):
                sizes[tensor.get_dtype()] += prod(tensor.get_shape())
    except (SafetensorError, ValueError, OSError) as error:
        raise _unreadable(path) from error
    floats = [name for name, _ in sizes.most_common() if name in FLOATS]
    if not floats:
        raise ValueError(f"{path} has no weights in {', '.join(FLOATS)}: it is another kind of file")
    return FLOATS[floats[0]]


def write_weight_folder(state: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write tensors as transformers does: one file, or several parts and an index."""
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in state.items()}
    plan = split_torch_state_dict_into_shards(
        tensors, filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD_SIZE
    )
    for file, names in plan.filename_to_tensors.items():
        write_safetensors({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")


def write_safetensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as one safetensors file, as a whole."""
    with replacing(path) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:
            if reason := re.search(r"os error (\d+)", str(error)):  # a full disk, for example
                raise OSError(int(reason[1]), os.strerror(int(reason[1]))) from error
            raise


def write_torch(content: object, path: str | Path) -> None:
    """Write with `torch.save`, as a whole."""
    # torch hides the reason of an error (a full disk) when it opens the file itself.
    with replacing(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the weight files of a model."""
    return hashlib.sha256("".join(file_digest(path) for path in weight_files(folder)).encode()).hexdigest()
