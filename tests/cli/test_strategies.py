"""Overlays for strategies, and what is said about strategies that would train wrongly."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from setuptools.dist import Distribution

from tests.cli.test_config import parsed
from tests.workplace import Workplace
from wand.cli import main
from wand.cli.configs import shipped_configs

ROOT = Path(__file__).parents[2]


def test_overlays_are_found_by_name(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"strategy/ddp", "strategy/fsdp", "quickstart"} <= set(shipped_configs())
    config = parsed(capsys, "--config", "quickstart", "--config", "strategy/fsdp")
    assert config["trainer"]["strategy"]["class_path"] == "wand.training.sharding.ShardedStrategy"
    assert config["trainer"]["strategy"]["init_args"]["save_distributed_checkpoint"] is False
    assert parsed(capsys, "--config", "quickstart", "--config", "strategy/ddp")["trainer"]["strategy"] == "ddp"


def test_an_installed_package_has_all_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    package_data = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    distribution = Distribution({"packages": ["wand"], "package_data": package_data, "include_package_data": False})
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    ((_, _, _, packed),) = build.data_files
    assert {f"configs/{name}.yaml" for name in shipped_configs()} <= set(packed)


@pytest.mark.parametrize("name", ["fsdp", "fsdp_cpu_offload", "ModelParallelStrategy"])
def test_what_would_not_shard_rightly_is_refused(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["fit", "--config", "quickstart", *workplace.fit, "--trainer.strategy", name]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert name.lower() in line.lower()
    assert "use `--config strategy/fsdp`" in line
    assert not Path("runs").exists()
