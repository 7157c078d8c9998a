"""How Lightning writes the checkpoints of a run."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from wand.files.weights import write_torch
from wand.files.writing import partial_of, put_in_place
from wand.runs.sharded import is_sharded, read_parts

# Parts of a checkpoint that a resumed run copies to its own tensors.
LARGE = ("state_dict", "optimizer_states")


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its target, flushes and renames it. A killed run leaves the old checkpoint whole.

    It also reads sharded checkpoints, so that a run can go on without sharding.

    Lightning's own writer copies the file from the folder of temporary files, which may be another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. Lightning writes those with a URL (``s3://...``)."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        elif is_sharded(path):
            made = partial_of(Path(path))
            write_torch(checkpoint, made)
            put_in_place(made, Path(path))
        else:
            write_torch(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint of either kind.

        The weights and the states of the optimizers in a local file are mapped: the ranks share its pages. The rest is
        copied, because callbacks may keep it.
        """
        if is_sharded(path):
            return read_parts(Path(path))
        if not Path(path).is_file():
            return super().load_checkpoint(path, map_location, weights_only)
        checkpoint: dict[str, Any] = torch.load(path, map_location, mmap=True, weights_only=weights_only)
        return {name: part if name in LARGE else deepcopy(part) for name, part in checkpoint.items()}
