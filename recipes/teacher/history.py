"""A callback that hides part of the earlier speech, so that the model learns to use the text."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from wand.model.batch import ConditionedBatch
from wand.training.module import WandModule


def hide_columns(columns: Tensor, rate: float, span: int, filler: int, generator: torch.Generator) -> Tensor:
    """Replace spans of speech columns ``[B, T, K]``.

    Every row has its own rate, uniform in ``[0, rate]``. Half of the hidden spans become filler. The others become a
    contiguous piece of another row: natural speech with other words. The labels are not changed.

    Args:
        columns: Speech columns of a batch.
        rate: Largest share of a row that is hidden.
        span: Mean length of a hidden span, in columns.
        filler: The filler token.
        generator: Random number generator.
    """
    rows, length, _ = columns.shape
    share = torch.rand(rows, 1, generator=generator) * rate
    # A span begins with this probability and ends with probability 1 / span, which hides `share` in the long run.
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
    # One other row and one shift for each row, so that each replacement is contiguous.
    others = (torch.arange(rows) + torch.randint(1, max(2, rows), (rows,), generator=generator)) % rows
    places = (torch.arange(length) + torch.randint(length, (rows, 1), generator=generator)) % length
    elsewhere = columns[others[:, None], places]
    replacement = torch.where(filled[..., None], filler, elsewhere)
    return torch.where(hidden[..., None], replacement, columns)


class HistoryDropout(Callback):
    """Hides spans of the input speech of a training step.

    A model that always sees the true previous columns learns to continue them and uses the text late or never. A model
    that cannot rely on them uses the text early, and copes with its own mistakes when it speaks.

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
        """Change the batch in place. The hidden spans depend only on step and rank."""
        assert isinstance(pl_module, WandModule)
        generator = torch.Generator().manual_seed(trainer.global_step * trainer.world_size + trainer.global_rank)
        filler = pl_module.backbone.layout.filler_id
        batch.columns = hide_columns(batch.columns.cpu(), self.rate, self.span, filler, generator).to(batch.columns)
