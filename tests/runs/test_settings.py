"""Settings refuse what makes no sense, and travel through checkpoints; those of the first runs are translated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import wand
from tests.workplace import Workplace
from wand import WandModule
from wand.distillation.terms import LossTerms
from wand.lora import LoraSettings
from wand.runs.checkpoints import load_backbone_and_settings
from wand.runs.settings import OptimizerSettings, RunSettings, flat_settings
from wand.training.optimizer import make_optimizer

# As the first version of wand stored them.
OLD = {
    "window": 8,
    "teacher": "copy",
    "ce_weight": 0.5,
    "kd_weight": 2.0,
    "codebook_weights": [1.0, 0.5] * 4,
    "skew": 0.2,
    "temperature": 2.0,
    "learning_rate": 4e-4,
    "weight_decay": 0.02,
    "warmup": 0.1,
    "gradient_checkpointing": True,
}
NEW = RunSettings(
    window=8,
    teacher="copy",
    gradient_checkpointing=True,
    loss=LossTerms(
        ce_weight=0.5,
        kd_weight=2.0,
        skew=0.2,
        temperature=2.0,
        codebook_weights=[1.0, 0.5] * 4,
    ),
    optimizer=OptimizerSettings(learning_rate=4e-4, weight_decay=0.02, warmup=0.1),
)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (LossTerms, {"ce_weight": -1.0}, "model.loss.ce_weight -1.0"),
        (LossTerms, {"ce_weight": 0.0, "kd_weight": 0.0}, "nothing to learn from"),
        (LossTerms, {"skew": 1.0}, "model.loss.skew 1.0"),
        (LossTerms, {"temperature": 0.0}, "model.loss.temperature 0.0"),
        (LossTerms, {"codebook_weights": [1.0, -1.0]}, "model.loss.codebook_weights"),
        (LossTerms, {"codebook_weights": [0.0, 0.0]}, "model.loss.codebook_weights"),
        (OptimizerSettings, {"learning_rate": 0.0}, "model.optimizer.learning_rate 0.0"),
        (OptimizerSettings, {"weight_decay": -0.1}, "model.optimizer.weight_decay -0.1"),
        (OptimizerSettings, {"warmup": 1.0}, "model.optimizer.warmup 1.0"),
        (RunSettings, {"teacher": None, "loss": LossTerms(ce_weight=0.0)}, "model.teacher is null"),
    ],
)
def test_settings_outside_their_range_are_refused(kind: type, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**settings)


def test_plain_values_become_the_same_settings_again() -> None:
    assert RunSettings.from_plain(NEW.to_plain()) == NEW
    assert RunSettings.from_plain({**NEW.to_plain(), "backbone": {}, "pretrained": None}) == NEW
    assert flat_settings(NEW.to_plain())["loss.skew"] == 0.2


def test_numbers_of_numpy_are_stored_as_plain_ones(tmp_path: Path) -> None:
    settings = RunSettings(
        window=np.int64(8),
        loss=LossTerms(codebook_weights=[np.float32(0.5)]),
        optimizer=OptimizerSettings(learning_rate=np.float64(1e-4)),
        lora=LoraSettings(rank=np.int64(8)),
    )
    torch.save(settings.to_plain(), tmp_path / "settings")
    assert torch.load(tmp_path / "settings", weights_only=True) == settings.to_plain()
    _, schedule = make_optimizer([torch.nn.Parameter(torch.ones(2))], settings.optimizer, 10)
    torch.save([schedule.optimizer.state_dict(), schedule.state_dict()], tmp_path / "optimizer")
    torch.load(tmp_path / "optimizer", weights_only=True)


def test_settings_of_the_first_version_are_translated() -> None:
    assert RunSettings.from_plain({**OLD, "backbone": {}, "pretrained": None}) == NEW


def as_first_version(run: Workplace, folder: Path) -> Path:
    """A copy of the finished run's checkpoint and config, rewritten as the first version of wand wrote them."""
    made = folder / "runs" / "old"
    (made / "checkpoints").mkdir(parents=True)
    checkpoint = torch.load(run.folder / "runs/quickstart/checkpoints/last.ckpt", weights_only=True)
    stored = checkpoint["hyper_parameters"]
    checkpoint["hyper_parameters"] = {**OLD, "backbone": stored["backbone"], "pretrained": stored["pretrained"]}
    torch.save(checkpoint, made / "checkpoints" / "last.ckpt")
    config = yaml.safe_load((run.folder / "runs/quickstart/config.yaml").read_text())
    config["model"] = {"backbone": config["model"]["backbone"], **OLD}
    config["trainer"]["callbacks"] = [{"class_path": "wand.callbacks.pictures.AttentionPictures"}]
    (made / "config.yaml").write_text(yaml.safe_dump(config))
    return made


def test_checkpoints_of_the_first_version_still_open(run: Workplace, tmp_path: Path) -> None:
    old = as_first_version(run, tmp_path)
    _, settings = load_backbone_and_settings(old)
    assert settings == NEW
    assert WandModule.load_from_checkpoint(old).settings == NEW
    assert wand.load(old).window.size == 8


def test_a_checkpoint_of_the_first_version_is_resumed_under_a_config_of_today(run: Workplace, tmp_path: Path) -> None:
    old = as_first_version(run, tmp_path)
    with pytest.warns(UserWarning, match=r"model\.optimizer\.warmup was 0\.1 in the checkpoint and is 0\.03 now"):
        run.run(
            "validate",
            "--config=runs/quickstart/config.yaml",
            f"--ckpt_path={old}",
            "--trainer.enable_progress_bar=false",
        )


def test_a_run_of_the_first_version_opens_under_its_own_config(
    run: Workplace, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    old = as_first_version(run, tmp_path)
    stored = (old / "config.yaml").read_bytes()
    run.run("validate", f"--ckpt_path={old}", "--trainer.enable_progress_bar=false")
    assert (old / "config.yaml").read_bytes() == stored
    assert not [warning for warning in recwarn if "in the checkpoint and is" in str(warning.message)]
