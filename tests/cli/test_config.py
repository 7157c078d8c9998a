"""What the parser makes of files and flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.workplace import Workplace
from wand.cli import main


def parsed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_interpolations_see_later_files_and_flags(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    Path("overlay.yaml").write_text("data:\n  workers: 3\n  batch_size: ${.workers}\n")
    config = parsed(capsys, "--config", "quickstart", "--config", "overlay.yaml", "--data.workers=5")
    assert config["data"]["batch_size"] == 5
    assert config["name"] == "quickstart"


def test_the_papers_recipe_is_the_default(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    config = parsed(capsys, "--model.backbone=EncodecLM", "--data.source=wand.demo.corpus.EspeakCorpus")
    model, schedule = config["model"], config["curriculum"]["schedule"]
    assert model["teacher"] == "copy"
    assert model["optimizer"] == {"learning_rate": 1e-5, "weight_decay": 0.01, "warmup": 0.03}
    loss = {"ce_weight": 1.0, "kd_weight": 1.0, "skew": 0.1, "temperature": 1.0}
    loss |= {"divergence": "skew_kl", "codebook_weights": None}
    assert model["loss"] == loss
    assert (schedule["start"], schedule["tau_start"], schedule["tau_end"]) == (128, 0.5, 16.0)
    assert config["trainer"]["max_epochs"] == 1
    assert config["trainer"]["use_distributed_sampler"] is False


def test_help_tells_what_settings_mean(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "speech columns a step sees at the end of training and in all use afterwards" in text
    assert "How the window narrows: from `start` speech columns with a soft mask (`tau_start`)" in text
