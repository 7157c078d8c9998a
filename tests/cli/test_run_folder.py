"""A run stays in its folder with any logger, and its best checkpoint is found under any name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers.logger import Logger

from tests.workplace import Workplace
from wand.cli.training import main
from wand.runs.checkpoints import best_checkpoint


class HereLogger(Logger):
    """Keeps nothing, in the current folder, as the logger of Weights & Biases."""

    name, version, save_dir = "own", "0", "."  # type: ignore[assignment]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.mark.parametrize(
    "logger",
    [
        ["--trainer.logger=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=elsewhere"],
        [f"--trainer.logger={__name__}.HereLogger"],
    ],
    ids=["csv", "here"],
)
def test_the_run_folder_has_config_and_checkpoints(workplace: Workplace, logger: list[str]) -> None:
    Path("config.yaml").write_text("the user's own\n")
    options = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--checkpoint.every_n_epochs=1"]
    workplace.run("fit", "--config", "quickstart", *workplace.fit, *options, *logger)
    run = Path("runs/quickstart")
    assert {file.name for file in run.glob("checkpoints/*")} == {"best.ckpt", "last.ckpt"}
    assert "name: quickstart" in (run / "config.yaml").read_text()
    assert Path("config.yaml").read_text() == "the user's own\n"
    assert list(Path().rglob("*.ckpt")) == list(run.rglob("*.ckpt"))


def test_the_best_checkpoint_is_tested_and_exported_under_any_name(workplace: Workplace) -> None:
    names = ["--checkpoint.filename={step}", "--checkpoint.save_top_k=3", "--checkpoint.dirpath=kept"]
    own = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--recogniser=null"]
    monitor = ["--checkpoint.monitor=val/ce", "--checkpoint.mode=min"]
    done = main("fit", ["--config", "quickstart", *workplace.fit, *names, *own, *monitor])
    best = done.trainer.checkpoint_callbacks[0].best_model_path
    assert {file.name for file in Path("kept").iterdir()} == {"2.ckpt", "4.ckpt"}
    assert done.trainer.ckpt_path == best
    assert best_checkpoint(Path("runs/quickstart")) == Path(best)
