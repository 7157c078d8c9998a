"""A resumed run uses the settings of the optimizer that it is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from tests.training.accumulated import module_of, utterances
from wand.runs.settings import OptimizerSettings
from wand.training.sharding import ShardedStrategy

STEPS = 8
FIRST = OptimizerSettings(learning_rate=1e-3, weight_decay=0.01, warmup=0.25)


class Watch(Callback):
    """Keeps learning rate and weight decay by the number of dimensions, as every step uses them; saves after three."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used: dict[int, tuple[set[float], dict[int, float]]] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        groups = optimizer.param_groups
        decay = {min(2, p.ndim): group["weight_decay"] for group in groups for p in group["params"]}
        self.used[trainer.global_step] = ({group["lr"] for group in groups}, decay)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)


def train(settings: OptimizerSettings, strategy: Any, save: Path, resume: Path | None = None) -> Watch:
    module = module_of(optimizer=settings)
    watch = Watch(save)
    quiet = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, callbacks=[watch], strategy=strategy, **quiet
    )
    batches = [utterances(module.backbone, [0])] * STEPS  # type: ignore[arg-type]
    trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=resume, weights_only=True)
    return watch


def expected(settings: OptimizerSettings, step: int) -> float:
    """A rise over the share of the warm-up, then a cosine."""
    rise = round(settings.warmup * STEPS)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * (1 + math.cos(math.pi * (step - rise) / (STEPS - rise))) / 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", [lambda: "auto", ShardedStrategy], ids=["one process", "FSDP2"])
@pytest.mark.parametrize(
    "second", [FIRST, OptimizerSettings(learning_rate=3e-2, weight_decay=0.3, warmup=0.5)], ids=["same", "changed"]
)
def test_a_resumed_run_uses_its_settings(tmp_path: Path, strategy: Callable[[], Any], second: Any) -> None:
    try:
        begun = train(FIRST, strategy(), tmp_path / "middle.ckpt")
        resumed = train(second, strategy(), tmp_path / "again.ckpt", tmp_path / "middle.ckpt")
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert list(begun.used) == list(range(STEPS))
    assert list(resumed.used) == list(range(3, STEPS))
    for watch, settings in ((begun, FIRST), (resumed, second)):
        for step, (rates, decay) in watch.used.items():
            assert list(rates) == [pytest.approx(expected(settings, step), abs=1e-12)]
            assert decay == {1: 0.0, 2: settings.weight_decay}
    if second == FIRST:
        assert resumed.used == {step: used for step, used in begun.used.items() if step >= 3}, "bit by bit"
