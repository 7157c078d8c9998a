"""How fast training goes and how much memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from wand.conditioning import ConditionedBatch


class ThroughputLogger(Callback):
    """Logs ``train/columns_per_second`` (prefix and speech columns, all ranks) and ``train/memory_gib`` (peak)."""

    def __init__(self) -> None:
        self._columns = 0
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._columns, self._since = 0, time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is not training: forget the interval it falls into."""
        self._columns = -1

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ConditionedBatch,
        batch_idx: int,
    ) -> None:
        """Count; log at the trainer's interval."""
        if self._columns < 0:
            self._columns, self._since = 0, time.perf_counter()
            return
        self._columns += len(batch) * (batch.prefix_length + batch.columns.shape[1])
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            rate = self._columns * trainer.world_size / (time.perf_counter() - self._since)
            self._columns, self._since = 0, time.perf_counter()
            pl_module.log("train/columns_per_second", rate)
            pl_module.log("train/memory_gib", peak_memory_gib(pl_module.device))


def peak_memory_gib(device: torch.device) -> float:
    """Peak of what the device's allocator, or on a CPU the process, has held, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
