"""Lightning's ModelCheckpoint, for which a metric that is not finite is never the best."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer, callbacks
from torch import Tensor


class ModelCheckpoint(callbacks.ModelCheckpoint):
    """Saves checkpoints as Lightning's own class does, but none whose monitored metric is NaN or infinite.

    Lightning itself keeps the first checkpoint whatever its metric. The name is the same, because checkpoints store the
    state of a callback under it.
    """

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether the monitored metric is among the best."""
        return current is not None and bool(torch.isfinite(current)) and super().check_monitor_top_k(trainer, current)
