"""The optimizer: AdamW with a warm-up and a cosine decay."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch.nn import Parameter
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wand.runs.settings import OptimizerSettings


def make_optimizer(
    parameters: Iterable[Parameter], settings: OptimizerSettings, total_steps: int
) -> tuple[AdamW, LambdaLR]:
    """AdamW over the trained parameters, and its learning rate schedule, which must be advanced at every step.

    Args:
        parameters: All parameters of a model. Those without gradients are left out.
        settings: Learning rate, weight decay and warm-up.
        total_steps: Steps of the whole training.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)
    warmup = max(1, round(settings.warmup * total_steps))
    return optimizer, LambdaLR(optimizer, lambda step: learning_rate_factor(step, warmup, total_steps))


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Factor of the peak learning rate at a step: a linear rise over `warmup` steps, then a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))
