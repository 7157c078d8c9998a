"""Write the config of a run, and record the run as the user's own."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_warn

from wand.files.writing import write_text
from wand.runs.trust import record_run


class RunConfig(SaveConfigCallback):
    """Writes the ``config.yaml`` of a run as a whole, before the first step.

    It is recorded first that this user's own fit writes it: the run is then usable without ``--trust`` at any moment.
    """

    log_dir: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder in every process, because `Trainer.log_dir` waits for all of them, and save in the first."""
        self.log_dir = trainer.log_dir
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Record it and write it into the folder of the logs, as `SaveConfigCallback` does."""
        assert self.log_dir is not None
        file = Path(self.log_dir) / self.config_filename
        text = self.parser.dump(self.config, skip_none=False)
        try:
            record_run(file.parent, text, dict(pl_module.hparams))
        except (OSError, ValueError) as error:
            rank_zero_warn(
                f"this run cannot be recorded as your own ({error}): if it uses code of your own, or a codec worker, "
                f"its commands need --trust; WAND_STATE names another folder for the record"
            )
        write_text(file, text)
