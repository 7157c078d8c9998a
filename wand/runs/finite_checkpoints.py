"""Checkpoints never hold NaN or infinite numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from wand.finite import find_non_finite, tensors_in


class FiniteCheckpoints(_WrappingCheckpointIO):
    """Writes a checkpoint only if its weights and the state of its optimizer are finite. Otherwise the old file stays.

    Args:
        checkpoint_io: What reads and writes the files.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a finite checkpoint; warn of another one."""
        parts = {name: checkpoint.get(name) for name in ("state_dict", "optimizer_states")}
        if (name := find_non_finite(tensors_in(parts))) is None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        kept = "the older file is kept" if Path(path).exists() else "there is no older file"
        rank_zero_warn(f"{path} is not written, because {name!r} is not finite (NaN or infinite); {kept}")
