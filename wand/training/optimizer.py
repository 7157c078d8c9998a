"""The optimizer: AdamW with a warm-up and a cosine decay."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lightning.pytorch import Trainer
from torch.nn import Parameter
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from wand.runs.settings import OptimizerSettings


def check_ends(trainer: Trainer) -> None:
    """Refuse a training without end or steps: window and learning rate follow the share of the steps that are done.

    Raises:
        ValueError: If the trainer has neither a number of epochs nor of steps, or one of them is 0.
    """
    for name in ("max_epochs", "max_steps"):
        if getattr(trainer, name) == 0:
            raise ValueError(f"trainer.{name} 0 trains nothing: set it to at least 1")
    if trainer.max_epochs == -1 and trainer.max_steps == -1:
        raise ValueError(
            "trainer.max_epochs -1 has no end, but window and learning rate need the number of steps: set "
            "trainer.max_epochs or trainer.max_steps; trainer.max_time can end the training earlier"
        )


def total_steps(trainer: Trainer) -> int:
    """Steps of the whole training.

    Raises:
        ValueError: If it has no end.
    """
    check_ends(trainer)
    return int(trainer.estimated_stepping_batches)


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
    groups = [[p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]]
    optimizer = AdamW([{"params": group} for group in groups if group], lr=settings.learning_rate)
    warmup = max(1, round(settings.warmup * total_steps))
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, warmup, total_steps))
    use_settings(schedule, settings)
    return optimizer, schedule


def use_settings(schedule: LambdaLR, settings: OptimizerSettings) -> None:
    """Set learning rate and weight decay of an optimizer, also if a checkpoint has restored others.

    Args:
        schedule: The optimizer's schedule from `make_optimizer`. It stays at its step, and keeps its warm-up.
        settings: The settings.
    """
    groups = schedule.optimizer.param_groups
    rate, decay = float(settings.learning_rate), float(settings.weight_decay)  # checkpoints keep plain numbers only
    schedule.base_lrs = [rate for _ in groups]
    for group, factor in zip(groups, schedule.lr_lambdas, strict=True):
        group["initial_lr"] = rate
        group["lr"] = rate * factor(schedule.last_epoch)
        group["weight_decay"] = decay if group["params"][0].ndim > 1 else 0.0
    schedule._last_lr = [group["lr"] for group in groups]


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Factor of the peak learning rate at a step: a linear rise over `warmup` steps, then a cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))
