"""Sharded checkpoints: folders to which every rank writes its own part of the tensors.

`torch.distributed.checkpoint` writes the tensors under their path in a checkpoint of one file, such as
``optimizer_states.0.state.5.exp_avg``. ``meta.pt`` holds everything else. The files are read without running code.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from wand.files.weights import write_torch
from wand.finite import tensors_in

META = "meta.pt"  # Lightning recognises a sharded checkpoint by this file
SHARDED = ("state_dict", "optimizer_states")
_METADATA = "torch.distributed.checkpoint.metadata"
# What the index of the tensors consists of.
INDEX_CLASSES = {
    *((_METADATA, name) for name in ("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties")),
    *((_METADATA, name) for name in ("TensorStorageMetadata", "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING")),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
}


def is_sharded(path: str | Path) -> bool:
    """Whether a path is a sharded checkpoint."""
    return (Path(path) / META).is_file()


def tensors_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint and the states of its optimizers, by their path in it."""
    return dict(tensors_in({name: checkpoint[name] for name in SHARDED if name in checkpoint}))


def write_parts(checkpoint: Mapping[str, Any], folder: Path, first: bool) -> None:
    """Write a checkpoint whose tensors are distributed. All ranks call this together.

    Args:
        checkpoint: The checkpoint. Tensors that are not `DTensor` are equal on all ranks.
        folder: Folder to write to; new, and the same for all ranks.
        first: Whether this is the rank that writes ``meta.pt``.
    """
    tensors = tensors_of(checkpoint)
    dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder))
    if first:
        write_torch(_replace_tensors(dict(checkpoint), dict.fromkeys(tensors)), folder / META)


def read_meta(folder: Path) -> dict[str, Any]:
    """Everything of a sharded checkpoint but its tensors, in whose place there is None."""
    meta: dict[str, Any] = torch.load(folder / META, map_location="cpu", weights_only=True)
    return meta


def stored_shapes(folder: Path) -> dict[str, torch.Size]:
    """The shapes of the tensors in a sharded checkpoint, by their path in it.

    Raises:
        ValueError: If the index holds something else, or a file is missing or cut off.
    """
    return {name: about.size for name, about in _tensors(folder).items()}


def read_parts(folder: Path, whole: bool = True) -> dict[str, Any]:
    """Read a sharded checkpoint in this process alone, as a checkpoint of one file has it.

    Args:
        folder: The sharded checkpoint.
        whole: Whether to read its tensors. Without, they are on the meta device.

    Raises:
        ValueError: As in `stored_shapes`.
    """
    device = "cpu" if whole else "meta"
    found = _tensors(folder).items()
    tensors = {name: torch.empty(about.size, dtype=about.properties.dtype, device=device) for name, about in found}
    if whole:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # on purpose
            dcp.load(tensors, storage_reader=_Reader(folder), no_dist=True)
    return _replace_tensors(read_meta(folder), tensors)


def load_parts(tensors: dict[str, Tensor], folder: Path) -> None:
    """Read tensors in place, each rank its own part. All ranks call this together.

    Args:
        tensors: Tensors by their path in the checkpoint.
        folder: The sharded checkpoint.
    """
    dcp.load(tensors, storage_reader=_Reader(folder))


def _tensors(folder: Path) -> dict[str, TensorStorageMetadata]:
    index = _Reader(folder).read_metadata()
    ends: dict[str, int] = {}
    for part in index.storage_data.values():
        ends[part.relative_path] = max(ends.get(part.relative_path, 0), part.offset + part.length)
    for name, end in ends.items():
        if Path(name).name != name or not (folder / name).is_file() or (folder / name).stat().st_size < end:
            raise ValueError(f"{name} is missing or cut off")
    found = index.state_dict_metadata
    tensors = {name: about for name, about in found.items() if isinstance(about, TensorStorageMetadata)}
    if len(tensors) < len(found):
        raise ValueError("its index has more than tensors")
    return tensors


def _replace_tensors(value: Any, tensors: Mapping[str, Tensor | None], path: str = "") -> Any:
    """Nested values with other ones at some paths, which are named as `tensors_in` names them."""
    if path in tensors:
        return tensors[path]
    below = f"{path}." if path else ""
    if isinstance(value, Mapping):
        return {key: _replace_tensors(part, tensors, f"{below}{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replace_tensors(part, tensors, f"{below}{i}") for i, part in enumerate(value))
    return value


class _Reader(dcp.FileSystemReader):
    """Reads the index of a sharded checkpoint without running code."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index.

        Raises:
            ValueError: If it holds something else.
        """
        with (Path(self.path) / ".metadata").open("rb") as file:
            index = _IndexUnpickler(file).load()
        if not isinstance(index, Metadata) or index.storage_meta is None:
            raise ValueError("its index is none of torch.distributed.checkpoint")
        index.storage_meta.load_id = self.load_id
        return index


class _IndexUnpickler(pickle.Unpickler):
    """Makes the objects of an index and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the classes of an index, or a dtype."""
        if (module, name) in INDEX_CLASSES or (module == "torch" and isinstance(getattr(torch, name, 0), torch.dtype)):
            return super().find_class(module, name)
        raise ValueError(f"its index names {module}.{name}, which is no part of an index")
