"""Each config of the ablations changes what it is named after, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.cli.test_config import parsed
from tests.workplace import Workplace
from wand.cli.configs import find_config, shipped_configs
from wand.moved import MOVED_CONFIGS

# As `wand analyze` finds them for the embedded voice.
WINDOWS, FEWEST = [40, 32, 24, 32, 40, 24], [8, 24, 16, 24, 8, 16]
CHANGES: dict[str, dict[str, Any]] = {
    "ablations/both": {"model.loss.ce_weight": 1.0},
    "ablations/ce-only": {"model.loss.ce_weight": 1.0, "model.loss.kd_weight": 0.0},
    "ablations/kl-only": {"model.loss.ce_weight": 0.0},
    "ablations/no-curriculum": {"curriculum.schedule": None},
    "ablations/no-soft-mask": {"curriculum.schedule.hard_from": 0.0},
    "ablations/window-8": {"model.window": 8},
    "ablations/window-16": {"model.window": 16},
    "ablations/window-64": {"model.window": 64},
    "ablations/window-128": {"model.window": 128},
    "ablations/layer-windows": {"model.window": WINDOWS},
    "ablations/layer-windows-fewest": {"model.window": FEWEST},
    "ablations/forward-kl": {"model.loss.divergence": "forward_kl"},
    "ablations/reverse-kl": {"model.loss.divergence": "reverse_kl"},
    "ablations/jsd": {"model.loss.divergence": "jsd"},
    "ablations/teacher-speech": {
        "data.source.class_path": "wand.data.sources.teacher_samples.TeacherSamples",
        "data.source.init_args.prompts.class_path": "wand.demo.coded.CodedCorpus",
        "data.source.init_args.prompts.init_args.hours": 0.8,
        "data.source.init_args.texts": "runs/ablations/texts.txt",
        "data.source.init_args.validation_share": 0.1,
        "data.source.init_args.test_share": 0.02,
        "data.source.init_args.rows": 64,
    },
}


def flat(config: dict[str, Any], place: str = "") -> dict[str, Any]:
    """Every setting by its place."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{place}{name}.") if isinstance(value, dict) else {f"{place}{name}": value}
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_an_ablation_changes_one_thing(name: str) -> None:
    read = flat(yaml.safe_load(shipped_configs()[name].read_text()))
    assert read == {"name": name.removeprefix("ablations/"), **CHANGES[name]}


def test_the_parser_takes_all_of_them(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace.folder / "texts.txt").write_text("one text.\n")
    configs = [part for name in ("quickstart", *CHANGES) for part in ("--config", name)]
    config = flat(parsed(capsys, *configs, "--data.source.init_args.texts=texts.txt"))
    told = {place: value for changes in CHANGES.values() for place, value in changes.items()}
    # One of them leaves nothing of the schedule before it.
    told |= {"data.source.init_args.texts": "texts.txt", "curriculum.schedule.final_share": 0.1}
    assert config["name"] == "teacher-speech"
    assert {place: config[place] for place in told if place != "curriculum.schedule"} == {
        place: value for place, value in told.items() if place != "curriculum.schedule"
    }


def test_windows_of_layers_take_the_bytes_of_one_window() -> None:
    assert sum(WINDOWS) == 6 * 32
    assert sum(FEWEST) == 6 * 16


@pytest.mark.parametrize("name", MOVED_CONFIGS)
def test_old_names_find_the_config_in_its_new_place(name: str) -> None:
    assert name not in shipped_configs()
    assert find_config(name) == find_config(MOVED_CONFIGS[name])
    assert MOVED_CONFIGS[name] in CHANGES
