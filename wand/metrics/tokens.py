"""How well a model predicts reference codes, by itself and compared with its teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from wand.distillation.losses import IGNORE, agreement, cross_entropy, masked_sum, skew_kl


def token_sums(logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> dict[str, Tensor]:
    """Sums over all labels, and the number of labels.

    Args:
        logits: The model's logits, ``[B, T, K, V]``.
        labels: Labels, ``[B, T, K]``.
        teacher: The teacher's logits, ``[B, T, K, V]``.

    Returns:
        Scalars ``count``, ``ce``, ``accuracy`` and, with a teacher, ``agreement`` and ``kl`` (the true divergence).
    """
    sums = {
        "count": (labels != IGNORE).sum(),
        "ce": masked_sum(cross_entropy(logits, labels), labels),
        "accuracy": masked_sum((logits.argmax(-1) == labels).float(), labels),
    }
    if teacher is not None:
        sums["agreement"] = masked_sum(agreement(logits, teacher).float(), labels)
        sums["kl"] = masked_sum(skew_kl(logits, teacher, skew=0.0), labels)
    return sums


class TokenMetrics(Metric):
    """Cross-entropy, accuracy, agreement with the teacher and true KL: means over all labels of all ranks.

    Args:
        with_teacher: Whether every update gets the teacher's logits.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, with_teacher: bool = True) -> None:
        super().__init__()
        self.names = ("ce", "accuracy", "agreement", "kl") if with_teacher else ("ce", "accuracy")
        for name in ("count", *self.names):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Add one batch: logits ``[B, T, K, V]``, labels ``[B, T, K]`` and the teacher's logits ``[B, T, K, V]``."""
        if teacher is None and "kl" in self.names:
            raise ValueError("the teacher's logits are missing: give them, or use TokenMetrics(with_teacher=False)")
        for name, value in token_sums(logits, labels, teacher).items():
            setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, Tensor]:
        """Means over all labels."""
        return {name: getattr(self, name) / self.count for name in self.names}
