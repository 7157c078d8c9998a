"""How Lightning writes the checkpoints of a run."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from wand.files.weights import write_torch


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its target, flushes and renames it. A killed run leaves the old checkpoint whole.

    Lightning's own writer copies the file from the folder of temporary files, which may be another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. Lightning writes those with a URL (``s3://...``)."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_torch(checkpoint, path)
