"""Lightning's ModelCheckpoint, for runs that move and for metrics that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, callbacks
from torch import Tensor

LOWER_IS_BETTER = ("ce", "kl", "cer", "wer")


class ModelCheckpoint(callbacks.ModelCheckpoint):
    """Saves checkpoints as Lightning's own class does, but none whose monitored metric is NaN or infinite.

    Lightning itself keeps the first checkpoint whatever its metric, and forgets the best one if a run is resumed under
    another path. The name is the same, because checkpoints store the state of a callback under it.
    """

    def check_names(self) -> None:
        """Check that checkpoints that are kept beside each other have names of their own.

        Raises:
            ValueError: If each would replace the one before.
        """
        filename = self.filename
        if self.save_top_k in (0, 1) or filename is None or any(part in filename for part in ("{step", "{epoch")):
            return
        raise ValueError(
            f"checkpoint.save_top_k {self.save_top_k} keeps several checkpoints, but checkpoint.filename {filename!r} "
            f"is one name for all of them: add the step, as in '{filename}-{{step}}'"
        )

    def check_mode(self) -> None:
        """Check that the best checkpoint is not the worst one.

        Raises:
            ValueError: If the mode does not fit the metric.
        """
        name = str(self.monitor).removeprefix("val/")
        mode = "max" if name == "agreement" else "min" if name in LOWER_IS_BETTER else self.mode
        if mode != self.mode:
            raise ValueError(
                f"checkpoint.monitor {self.monitor} with checkpoint.mode {self.mode} would keep the worst checkpoint: "
                f"set checkpoint.mode {mode}"
            )

    @property
    def best(self) -> Path | None:
        """The best checkpoint of this run; None if it has none, such as before the first validation."""
        path = Path(self.best_model_path)  # that of another run, if this one began from its checkpoint
        own = self.dirpath is not None and path.is_relative_to(self.dirpath)
        return path if own and path.exists() and self.best_model_path else None

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether the monitored metric is among the best."""
        return current is not None and bool(torch.isfinite(current)) and super().check_monitor_top_k(trainer, current)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best checkpoint and its score, also if the folder with it has moved."""
        state = _moved(state_dict, str(state_dict.get("dirpath")), str(self.dirpath))
        best = state["best_model_path"]
        # A new run that begins from another one's checkpoint has no such file, and looks for a best one of its own.
        super().load_state_dict(state if not best or Path(best).exists() else state_dict)


def _moved(value: Any, old: str, new: str) -> Any:
    """The state of a `ModelCheckpoint`, with another folder in place of the old one in all paths."""
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(part, old, new) for key, part in value.items()}
    if not isinstance(value, str):
        return value
    return new + value.removeprefix(old) if value == old or value.startswith(f"{old}/") else value
