"""When speed and memory are logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from wand.callbacks import ThroughputLogger


class Watched(LightningModule):
    """Keeps the steps after which the speed is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.logged: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.weight * 1.0

    def log(self, name: str, value: Any, **options: Any) -> None:  # type: ignore[override]
        if name == "train/columns_per_second":
            self.logged.append(self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Batch(SimpleNamespace):
    """What is read of a batch."""

    def __len__(self) -> int:
        return 1


def batch(_: Any) -> Batch:
    columns, lengths = torch.zeros(1, 2), torch.ones(1)
    return Batch(prefix_length=1, columns=columns, prefix_lengths=lengths, lengths=lengths)


@pytest.mark.filterwarnings("ignore:.*num_workers")
@pytest.mark.parametrize(("interval", "steps"), [(0, []), (1, [1, 2, 3]), (2, [2])])
def test_the_speed_is_logged_once_after_a_step(tmp_path: Any, interval: int, steps: list[int]) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=3,
        log_every_n_steps=interval,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ThroughputLogger()],
        default_root_dir=tmp_path,
    )
    module = Watched()
    trainer.fit(module, DataLoader(range(9), collate_fn=batch))
    assert module.logged == steps
