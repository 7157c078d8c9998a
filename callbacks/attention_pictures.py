"""Pictures of the current attention mask and the window schedule in TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from wand.attention import AttentionContext, Windows
from wand.callbacks.window_curriculum import WindowCurriculum
from wand.checks import check_whole_number
from wand.ranks import apart
from wand.training.loggers import tensorboard
from wand.training.module import WandModule
from wand.training.optimizer import total_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AttentionPictures(Callback):
    """Draws the whole schedule once, and the mask at every validation at which the window has changed.

    Args:
        prefix: Prefix columns of the drawn example.
        columns: Speech columns of the drawn example.
    """

    def __init__(self, prefix: int = 24, columns: int = 200) -> None:
        check_whole_number("prefix", prefix, least=0)
        check_whole_number("columns", columns, least=1)
        self.prefix = prefix
        self.columns = columns
        self._drawn: Windows | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the schedule and the first mask."""
        self._draw(trainer, pl_module, schedule=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the current training mask."""
        if not trainer.sanity_checking and trainer.state.fn == TrainerFn.FITTING:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last mask."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, schedule: bool = False) -> None:
        with apart("drawing"):
            self._draw_own(trainer, pl_module, schedule)

    def _draw_own(self, trainer: Trainer, pl_module: LightningModule, schedule: bool) -> None:
        board = tensorboard(trainer)
        assert isinstance(pl_module, WandModule)
        if board is None or not trainer.is_global_zero or pl_module.final_window.is_full:
            return
        try:
            import matplotlib
        except ModuleNotFoundError:
            rank_zero_warn('pictures need matplotlib: pip install "wand-tts[plots]"')
            return
        matplotlib.use("agg")
        if schedule and (figure := self._schedule_figure(trainer, pl_module)) is not None:
            board.add_figure("schedule", figure, trainer.global_step)
        if pl_module.window != self._drawn:
            self._drawn = pl_module.window
            board.add_figure("attention_mask", self._mask_figure(pl_module.window), trainer.global_step)

    def _mask_figure(self, window: Windows) -> Figure:
        from matplotlib.figure import Figure

        total = self.prefix + self.columns
        context = AttentionContext(window, self.prefix)
        soft = window.tau is not None
        mask = context.mask(total, torch.device("cpu"), torch.float32 if soft else None)[0, 0]
        weight = mask.exp() if soft else mask.float()
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        axes.imshow(weight.numpy(), cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axes.axvline(self.prefix - 0.5, color="white", linewidth=0.5)
        axes.axhline(self.prefix - 0.5, color="white", linewidth=0.5)
        softness = "hard" if window.tau is None else f"tau {window.tau:.2f}"
        axes.set(title=f"window {window.plain}, {softness}", xlabel="key column", ylabel="query column")
        return figure

    def _schedule_figure(self, trainer: Trainer, module: WandModule) -> Figure | None:
        from matplotlib.figure import Figure

        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        found = [c for c in callbacks if isinstance(c, WindowCurriculum)]
        if not found or found[0].schedule is None:
            return None
        total = total_steps(trainer)
        windows = [found[0].schedule.at(step, total, module.final_window) for step in range(total + 1)]
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot([float(w.largest or 0) for w in windows], color="tab:blue")
        axes.set(xlabel="step", ylabel="window (columns)", ylim=(0, None))
        softness = axes.twinx()
        softness.plot([float("nan") if w.tau is None else w.tau for w in windows], color="tab:orange")
        softness.set(ylabel="tau (no line: hard mask)", yscale="log")
        return figure
