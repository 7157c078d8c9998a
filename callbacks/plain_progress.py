"""Progress lines for a fit, a validation or a test without a terminal."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from wand.console.progress import ProgressLines
from wand.data.datamodule import SpeechDataModule
from wand.training.optimizer import total_steps

# Figures that a line of a fit shows after the step, by their names in the progress bar.
SHOWN = {"loss": "loss {:.4g}", "train/window": "window {:.0f}"}


class PlainProgress(ProgressBar):
    """Prints a plain line now and then: step, number of steps, loss, window and time left.

    `wand fit`, `wand validate` and `wand test` use it instead of Lightning's bar if standard output is not a terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._fit: ProgressLines | None = None
        self._evaluation: ProgressLines | None = None

    def enable(self) -> None:
        """Print lines."""
        self._enabled = True

    def disable(self) -> None:
        """Print nothing."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count optimiser steps."""
        total = total_steps(trainer)
        self._fit = ProgressLines("fit", total, "steps", done=trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line if one is due. Figures are read from the device only then."""
        if self._enabled and self._fit is not None and self._fit.due:
            figures = trainer.progress_bar_metrics
            shown = [text.format(figures[name]) for name, text in SHOWN.items() if name in figures]
            self._fit.update(trainer.global_step, ", ".join(shown))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print how long the fit took."""
        if self._enabled and self._fit is not None:
            self._fit.finish()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count batches."""
        self._begin("validation", trainer.num_val_batches)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if one is due."""
        self._count(batch_idx + 1)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count batches."""
        data = getattr(trainer, "datamodule", None)
        speech = data.speech if isinstance(data, SpeechDataModule) else "speech"
        self._begin(f"test, {speech}", trainer.num_test_batches)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if one is due."""
        self._count(batch_idx + 1)

    def _begin(self, title: str, batches: list[int | float] | int | float) -> None:
        total = sum(batches) if isinstance(batches, list) else batches
        self._evaluation = ProgressLines(title, int(total), "batches")

    def _count(self, done: int) -> None:
        if self._enabled and self._evaluation is not None:
            self._evaluation.update(done)
