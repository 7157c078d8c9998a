"""Stops a trainer at a signal, with everything saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from wand.console.interrupt import Interrupted, stop_requested
from wand.runs.trust import command_for
from wand.training.module import WandModule


class StopAtSignal(Checkpoint):
    """Stops training after a step of the optimizer, and validation and test after a batch, when a signal has arrived.

    A fit then saves ``checkpoints/last.ckpt``. Several processes stop at the same step: they agree in the reduction
    that also says whether the step is finite. It is a `Checkpoint` because Lightning calls these after all other
    callbacks.

    Args:
        folder: Folder of the run; None saves nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop here if a signal came while data were prepared."""
        self._stop_if_asked(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here if a signal came while the run was set up."""
        self._stop_if_asked(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop here if the optimizer has just made its step."""
        loop = trainer.fit_loop
        assert loop._data_fetcher is not None, "there is a batch"
        ends_epoch = loop.epoch_loop.batch_progress.is_last_batch
        if ends_epoch and not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            return  # what is saved at the end of an epoch belongs to it: `on_train_epoch_end` stops
        assert isinstance(pl_module, WandModule)
        if not loop._should_accumulate() and pl_module.stop_signal:
            raise Interrupted(pl_module.stop_signal)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here; a resumed fit repeats the validation."""
        self._stop_if_asked(trainer)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here."""
        self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop here, after the checkpoints of the epoch."""
        self._stop_if_asked(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save a fit that a signal has stopped, and say how to go on."""
        if not isinstance(exception, Interrupted) or trainer.state.fn != TrainerFn.FITTING or self.folder is None:
            return
        if trainer.global_step == 0:
            return  # nothing was trained yet
        trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt", weights_only=False)
        again = command_for("fit", self.folder)
        exception.report = f"saved at step {trainer.global_step}; go on with: {again}"

    @staticmethod
    def _stop_if_asked(trainer: Trainer) -> None:
        number = torch.tensor(stop_requested(), device=trainer.strategy.root_device)
        if agreed := int(trainer.strategy.reduce(number, reduce_op="max")):
            raise Interrupted(agreed)
