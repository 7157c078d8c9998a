"""Keeps the position in a run from which a resumed run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from wand.training.random_state import random_state


@dataclass(frozen=True)
class Position:
    """Where a run stands right after a step of the optimizer, besides weights and optimizer.

    Args:
        loops: State of Lightning's fit loop.
        data: Position in the data.
        random: State of the random numbers.
    """

    loops: dict[str, Any]
    data: dict[str, Any]
    random: dict[str, Tensor]


class ResumePoint(Callback):
    """Gives every checkpoint of a fit the position from which the resumed run equals the undisturbed one.

    Lightning alone resumes wrongly in two cases. From a checkpoint of a batch that is followed by a validation, it
    leaves that validation out. From a checkpoint inside an accumulation, it forgets the gradients that were added up.
    Here a checkpoint that is saved before the end of such a validation or accumulation holds the position right after
    the last step of the optimizer; weights and optimizer have not changed since. The resumed run then repeats the
    validation, or the whole accumulation.
    """

    def __init__(self) -> None:
        self._position: Position | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the position of the checkpoint until the next step of the optimizer."""
        if trainer.state.fn == TrainerFn.FITTING:
            data = checkpoint.get(_data_key(trainer), {})
            random = {name: state for name, state in checkpoint.get("wand", {}).items() if name.endswith("rng_state")}
            self._position = Position(checkpoint["loops"]["fit_loop"], data, random)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the position if the optimizer has just made its step."""
        if not trainer.fit_loop._should_accumulate():
            data = {} if trainer.datamodule is None else trainer.datamodule.state_dict()  # type: ignore[attr-defined]
            self._position = Position(_loops(trainer), data, random_state(trainer.strategy.root_device))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget that a resumed validation had begun before; otherwise it would count as unfinished for ever."""
        trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, the position is behind the validation."""
        if not trainer.fit_loop._should_accumulate():
            self._position = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, the position is behind the epoch."""
        self._position = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the position, if it is not the current one."""
        if self._position is not None:
            checkpoint["loops"]["fit_loop"] = self._position.loops
            checkpoint["wand"] = dict(self._position.random)
            if self._position.data:
                checkpoint[_data_key(trainer)] = self._position.data


def _data_key(trainer: Trainer) -> str:
    return type(trainer.datamodule).__qualname__  # type: ignore[attr-defined]


def _loops(trainer: Trainer) -> dict[str, Any]:
    """State of the fit loop at the end of a batch; if a validation is due, as if it had begun."""
    state = trainer.fit_loop.state_dict()
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None, "there is a batch"
    if trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher):
        trained, checked = state["epoch_loop.batch_progress"], state["epoch_loop.val_loop.batch_progress"]
        checked["current"] = dict.fromkeys(checked["current"], 0)
        for count in ("total", "current"):
            trained[count]["completed"] += 1
            checked[count]["ready"] += 1
            checked[count]["started"] += 1
    return state
