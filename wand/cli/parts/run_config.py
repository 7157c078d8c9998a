"""Write the config of a run, and record the run as the user's own."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_warn

from wand.files.writing import write_text
from wand.runs.trust import record_run

# What belongs to one command, not to the run: a new fit with the config of a resumed run would resume it, too.
OF_A_COMMAND = ("ckpt_path", "weights_only")


class RunConfig(SaveConfigCallback):
    """Writes the ``config.yaml`` of a run as a whole, before the first step.

    It is recorded first that this user's own fit writes it: the run is then usable without ``--trust`` at any moment.
    The config of a run that is resumed is replaced only after all checks, so a refused resume changes nothing.
    """

    def _file(self, trainer: Trainer) -> Path:
        """In the run folder, wherever the logs are; see `WandCLI.before_fit`."""
        return Path(trainer.default_root_dir) / self.config_filename

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the config of a new run."""
        if trainer.is_global_zero and not self._file(trainer).exists():
            self.save_config(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the config of a resumed run. The callbacks before this one have accepted it; the curriculum is one."""
        if trainer.is_global_zero and not self.already_saved:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Record it and write it into the run folder."""
        file = self._file(trainer)
        config = self.config.clone()
        for name in OF_A_COMMAND:
            config.pop(name, None)
        text = self.parser.dump(config, skip_none=False)
        try:
            record_run(file.parent, text, dict(pl_module.hparams))
        except (OSError, ValueError) as error:
            rank_zero_warn(
                f"this run cannot be recorded as your own ({error}): if it uses code of your own, or a codec worker, "
                f"its commands need --trust; WAND_STATE names another folder for the record"
            )
        write_text(file, text)
        self.already_saved = True
