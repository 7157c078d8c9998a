"""Configs of older versions are read in today's names; what is no config gets one line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from tests.cli.test_config import parsed
from tests.cli.test_errors import refused
from tests.workplace import Workplace
from wand.cli.configs import shipped_configs
from wand.runs.old_names import MOVED_MODULES, read_config

# As a user of the first version wrote it.
OLD = """
name: old
model:
  backbone: EncodecLM
  window: 8
  learning_rate: 4.0e-4
  ce_weight: ${.kd_weight}
  kd_weight: 0.5
  loss:
    divergence: forward_kl
data:
  source:
    class_path: wand.data.sampled.TeacherSamples
    init_args:
      texts: texts.txt
      prompts:
        class_path: wand.data.manifest.ManifestCorpus
        init_args:
          path: voices.jsonl
trainer:
  callbacks:
    - class_path: wand.callbacks.memory.MemoryEstimate
    - class_path: wand.callbacks.ThroughputLogger
"""


def read(text: str, folder: Path) -> tuple[dict[str, Any], bool]:
    (folder / "config.yaml").write_text(text)
    config, translated = read_config(folder / "config.yaml")
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}, translated


def test_old_names_are_translated_and_nothing_else(tmp_path: Path) -> None:
    config, translated = read(OLD, tmp_path)
    assert translated
    assert config["model"] == {
        "backbone": "EncodecLM",
        "window": 8,
        "loss": {"divergence": "forward_kl", "ce_weight": "${.kd_weight}", "kd_weight": 0.5},
        "optimizer": {"learning_rate": 4e-4},
    }
    source = config["data"]["source"]
    assert source["class_path"] == "wand.data.sources.teacher_samples.TeacherSamples"
    assert source["init_args"]["texts"] == "texts.txt"
    assert source["init_args"]["prompts"]["class_path"] == "wand.data.sources.manifest.ManifestCorpus"
    callbacks = [callback["class_path"] for callback in config["trainer"]["callbacks"]]
    assert callbacks == ["wand.callbacks.memory_estimate.MemoryEstimate", "wand.callbacks.ThroughputLogger"]
    again, translated = read(yaml.safe_dump(config, sort_keys=False), tmp_path)
    assert again == config
    assert not translated


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_have_todays_names(name: str) -> None:
    assert not read_config(shipped_configs()[name])[1]


@pytest.mark.parametrize("module", MOVED_MODULES.values())
def test_moved_modules_are_there(module: str) -> None:
    importlib.import_module(module)


def test_the_parser_takes_an_old_config(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    Path("texts.txt").write_text("yes.\n")
    Path("old.yaml").write_text(OLD)
    config = parsed(capsys, "--config", "quickstart", "--config", "old.yaml", "--model.loss.skew=0.2")
    loss = {name: config["model"]["loss"][name] for name in ("ce_weight", "kd_weight", "skew", "divergence")}
    assert loss == {"ce_weight": 0.5, "kd_weight": 0.5, "skew": 0.2, "divergence": "forward_kl"}
    assert config["model"]["optimizer"]["learning_rate"] == 4e-4
    assert config["data"]["source"]["class_path"] == "wand.data.sources.teacher_samples.TeacherSamples"
    assert Path("old.yaml").read_text() == OLD


@pytest.mark.parametrize("name", ["wand.export.v2", "wand.text.jsonl", "wand.voices.json", "wand.weights"])
def test_a_name_that_is_no_class_stays(tmp_path: Path, name: str) -> None:
    values = {"name": name, "data": {"source": {"init_args": {"path": name, "more": [name]}}}}
    assert read(yaml.safe_dump(values), tmp_path) == (values, False)


def test_an_old_class_path_can_be_typed(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    config = parsed(capsys, "--config", "quickstart", "--data.source=wand.data.files.LJSpeech")
    assert config["data"]["source"]["class_path"] == "wand.data.sources.corpora.LJSpeech"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("model: [", "cannot be read", id="yaml"),
        pytest.param("- model", "has no settings", id="list"),
        pytest.param("", "has no settings", id="empty"),
        pytest.param(
            "model: {skew: 0.1, loss: {skew: 0.2}}",
            "model.skew is now model.loss.skew: set it there and remove the old one",
            id="both",
        ),
        pytest.param("model: {skew: 0.1, loss: x.yaml}", "model.skew is now model.loss.skew: set it there", id="file"),
        pytest.param("a: " + "'${a:[" + "${a:[" * 2000 + "'", "cannot be read", id="deep"),
    ],
)
def test_a_file_that_is_no_config(
    workplace: Workplace, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.yaml").write_text(text)
    last = refused(["fit", "--config", "quickstart", "--config", "config.yaml"], capsys)
    assert "config.yaml" in last
    assert words in last
