"""The speed and memory of training."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from wand.model.batch import ConditionedBatch


class ThroughputLogger(Callback):
    """Logs speed, padding and memory.

    ``train/columns_per_second`` counts prefix and speech columns of all ranks, padding included. ``train/padding`` is
    the share of padding in the columns of this rank. ``train/memory_gib`` is the peak memory.
    """

    def __init__(self) -> None:
        self._columns = 0
        self._real: list[Tensor] = []
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start()

    def _start(self) -> None:
        self._columns, self._real, self._since = 0, [], time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the current interval, because validation takes part of its time."""
        self._columns = -1

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ConditionedBatch,
        batch_idx: int,
    ) -> None:
        """Count the columns, and log at the trainer's interval."""
        if self._columns < 0:
            self._start()
            return
        self._columns += len(batch) * (batch.prefix_length + batch.columns.shape[1])
        # Kept as a tensor until it is logged, to avoid a device sync.
        self._real.append(batch.prefix_lengths.sum() + batch.lengths.sum())
        interval = trainer.log_every_n_steps  # type: ignore[attr-defined]
        stepped = not trainer.fit_loop._should_accumulate()
        if interval and stepped and trainer.global_step % interval == 0:
            rate = self._columns * trainer.world_size / (time.perf_counter() - self._since)
            pl_module.log("train/columns_per_second", rate)
            pl_module.log("train/padding", 1 - torch.stack(self._real).sum() / self._columns)
            pl_module.log("train/memory_gib", peak_memory_gib(pl_module.device))
            self._start()


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory of the device's allocator, or of the process on a CPU, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
