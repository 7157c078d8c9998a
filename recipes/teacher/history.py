"""Hides part of what was said, so that a young model listens to the text."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from wand.model.batch import ConditionedBatch
from wand.training.module import WandModule


def hide_columns(columns: Tensor, rate: float, span: int, filler: int, generator: torch.Generator) -> Tensor:
    """Replace spans of speech columns ``[B, T, K]``.

    Every row has its own rate, uniform in ``[0, rate]``; half of the hidden columns become filler, the others what
    another row says, in one piece: other words that sound just as well. Labels are made before, so what is to be said
    stays.

    Args:
        columns: Speech columns of a batch.
        rate: Largest share of a row that is hidden.
        span: Mean length of a hidden span, in columns.
        filler: Token of hidden places.
        generator: Where the choices come from.
    """
    rows, length, _ = columns.shape
    share = torch.rand(rows, 1, generator=generator) * rate
    # A span begins with this probability and ends with 1 / span: so large a share is hidden in the long run.
    begin = (share / ((1 - share) * span)).clamp(max=1.0)
    draws = torch.rand(rows, length, 2, generator=generator)
    hidden = torch.zeros(rows, length, dtype=torch.bool)
    filled = torch.zeros(rows, length, dtype=torch.bool)
    inside, fills = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool)
    for i in range(length):
        starts = ~inside & (draws[:, i, 1] < begin[:, 0])
        fills = torch.where(starts, torch.rand(rows, generator=generator) < 0.5, fills)
        inside = torch.where(inside, draws[:, i, 0] >= 1 / span, starts)
        hidden[:, i], filled[:, i] = inside, fills
    # One other row and one shift for each row: what is taken from elsewhere hangs together.
    others = (torch.arange(rows) + torch.randint(1, max(2, rows), (rows,), generator=generator)) % rows
    places = (torch.arange(length) + torch.randint(length, (rows, 1), generator=generator)) % length
    elsewhere = columns[others[:, None], places]
    replacement = torch.where(filled[..., None], filler, elsewhere)
    return torch.where(hidden[..., None], replacement, columns)


class HistoryDropout(Callback):
    """Hides spans of the speech that a training step is given.

    A model that always sees the true last columns learns to continue them and finds the text late, if at all; one
    that cannot rely on them finds it early, and survives its own mistakes when it speaks.

    Args:
        rate: Largest share of a row that is hidden.
        span: Mean length of a hidden span, in columns.
    """

    def __init__(self, rate: float = 0.5, span: int = 8) -> None:
        self.rate = rate
        self.span = span

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ConditionedBatch, batch_idx: int
    ) -> None:
        """Change the batch in place; what is hidden is a function of step and rank."""
        assert isinstance(pl_module, WandModule)
        generator = torch.Generator().manual_seed(trainer.global_step * trainer.world_size + trainer.global_rank)
        filler = pl_module.backbone.layout.filler_id
        batch.columns = hide_columns(batch.columns.cpu(), self.rate, self.span, filler, generator).to(batch.columns)
