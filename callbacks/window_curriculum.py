"""The callback that narrows the attention window during training."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from wand.training.curriculum import WindowSchedule
from wand.training.module import WandModule
from wand.training.optimizer import total_steps

DEFAULT_SCHEDULE = WindowSchedule()


class WindowCurriculum(Callback):
    """Sets the window of every training step from ``global_step / total_steps``. Evaluation uses the final window.

    The window is a pure function of the step, so a resumed run gets the same windows as an uninterrupted one. The
    stored state is only used to detect that a run is resumed under another schedule.

    Args:
        schedule: How the window narrows: from `start` speech columns with a soft mask (`tau_start`) to the final hard
            window. Null uses the final window at every step.
        accept_change: Whether to resume although the schedule or the number of steps has changed.

    Raises:
        ValueError: If the schedule starts below the final window, or if a resumed run has another schedule.
    """

    def __init__(self, schedule: WindowSchedule | None = DEFAULT_SCHEDULE, accept_change: bool = False) -> None:
        self.schedule = schedule
        self.accept_change = accept_change
        self._total_steps: int | None = None
        self._stored: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """The name under which checkpoints keep the state."""
        return "WindowCurriculum"

    def check(self, module: WandModule) -> None:
        """Refuse a schedule that cannot narrow to the final window of a module."""
        if self.schedule is not None:
            self.schedule.check(module.final_window)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a second curriculum, and a schedule that cannot narrow to the final window."""
        if sum(isinstance(callback, WindowCurriculum) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise ValueError(
                "there are two WindowCurriculum callbacks, but one is always added: configure it under `curriculum:`"
            )
        self.check(_wand(pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the number of steps and compare the schedule with the one in the checkpoint."""
        self._total_steps = total_steps(trainer)
        changes = [f"{name} {old} is now {new}" for name, old, new in self._changes()]
        if changes and not self.accept_change:
            raise ValueError(
                f"this run began under another schedule ({'; '.join(changes)}): resume with the run's own "
                f"settings, or pass --curriculum.accept_change true"
            )
        self._apply(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the window of this step; it is the same for all its micro-batches."""
        self._apply(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The schedule and the number of steps; those of the checkpoint if no step followed it."""
        if self._total_steps is None and self._stored is not None:
            return self._stored
        schedule = None if self.schedule is None else asdict(self.schedule)
        return {"version": 1, "total_steps": self._total_steps, "schedule": schedule}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of the checkpoint for comparison."""
        self._stored = state_dict

    def _changes(self) -> list[tuple[str, Any, Any]]:
        if self._stored is None or self._stored["total_steps"] is None:
            return []
        now = self.state_dict()
        changes = [("total_steps", self._stored["total_steps"], now["total_steps"])]
        old, new = self._stored["schedule"] or {}, now["schedule"] or {}
        changes += [(f"schedule.{name}", old.get(name), new.get(name)) for name in sorted({*old, *new})]
        return [(name, before, after) for name, before, after in changes if before != after]

    def _apply(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = _wand(pl_module)
        if self.schedule is None:
            module.window = module.final_window
            return
        assert self._total_steps is not None
        module.window = self.schedule.at(trainer.global_step, self._total_steps, module.final_window)


def _wand(module: LightningModule) -> WandModule:
    assert isinstance(module, WandModule)
    return module
