"""Checkpoints never hold NaN or infinite numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from wand.finite import find_non_finite
from wand.runs.sharded import tensors_of


class FiniteCheckpoints(_WrappingCheckpointIO):
    """Writes a checkpoint only if its weights and the state of its optimizer are finite. Otherwise the old file stays.

    Args:
        checkpoint_io: What reads and writes the files.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a finite checkpoint; warn of another one."""
        if (name := find_non_finite(tensors_of(checkpoint).items())) is None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        warn_of_non_finite(path, name)


def warn_of_non_finite(path: Any, name: str) -> None:
    """Warn that a checkpoint is not written, because a tensor is not finite."""
    kept = "the older file is kept" if Path(path).exists() else "there is no older file"
    rank_zero_warn(f"{path} is not written, because {name!r} is not finite (NaN or infinite); {kept}")
