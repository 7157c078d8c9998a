"""A callback that hides part of the earlier speech, so that the model learns to use the text."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from wand.model.batch import ConditionedBatch
from wand.training.module import WandModule


def runs(begins: Tensor, goes_on: Tensor) -> Tensor:
    """Which columns lie in a run, bool ``[B, T]``.

    A run that has not begun begins where `begins`; one that has begun goes on where `goes_on`. Each column is thus a
    function of whether the one before it lies in a run. All of them are composed in log2(T) steps.

    Args:
        begins: Bool ``[B, T]``.
        goes_on: Bool ``[B, T]``.
    """
    outside, inside, step = begins, goes_on, 1
    while step < begins.shape[1]:
        composed = [
            torch.where(earlier[:, :-step], inside[:, step:], outside[:, step:]) for earlier in (outside, inside)
        ]
        outside, inside = (
            torch.cat([own[:, :step], later], 1) for own, later in zip((outside, inside), composed, strict=True)
        )
        step *= 2
    return outside


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
    begins, ends = torch.rand(2, rows, length, generator=generator).unbind()
    hidden = runs(begins < begin, ends >= 1 / span)
    before = functional.pad(hidden[:, :-1], (1, 0))
    # The column where the span of each column began.
    begun = torch.where(hidden & ~before, torch.arange(length), 0).cummax(1).values
    filled = (torch.rand(rows, length, generator=generator) < 0.5).gather(1, begun)
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
