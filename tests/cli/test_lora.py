"""A run with LoRA through the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_runs import QUIET
from tests.workplace import Workplace
from wand.cli import main
from wand.runs.checkpoints import read_checkpoint

RUN = "runs/lora"
SPEAK = ["synthesize", "hello", "--max_seconds=1", f"--reference={RUN}/samples/0-reference.wav"]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, enter: Callable[[Path, pytest.MonkeyPatch], Workplace]
) -> Workplace:
    """A workplace with one finished run with LoRA."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        workplace = enter(tmp_path_factory.mktemp("lora"), monkeypatch)
        options = ["--trainer.max_steps=2", "--model.lora.rank=4", *QUIET]
        workplace.run("fit", "--config", "quickstart", "--config", "lora", *workplace.fit, *options)
    return workplace


@pytest.fixture
def lora(
    trained: Workplace, monkeypatch: pytest.MonkeyPatch, enter: Callable[[Path, pytest.MonkeyPatch], Workplace]
) -> Workplace:
    """The finished run, with its workplace as current folder."""
    return enter(trained.folder, monkeypatch)


@pytest.fixture
def hidden(lora: Workplace) -> Iterator[Path]:
    """Where the original weights are no longer."""
    moved = lora.pretrained.rename(lora.pretrained.with_name("hidden"))
    yield lora.pretrained
    moved.rename(lora.pretrained)


def test_every_command_opens_the_run(lora: Workplace, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(RUN)
    assert all(".lora_" in name for name in checkpoint["state_dict"])
    assert checkpoint["hyper_parameters"]["lora"] == {"rank": 4, "alpha": 32, "targets": None}
    for system in ("student", "teacher"):
        lora.run(*SPEAK, "--ckpt_path", RUN, "--system", system, "--out", f"{system}.wav")
        assert Path(f"{system}.wav").is_file()
    lora.run("validate", "--ckpt_path", RUN, "--trainer.enable_progress_bar=false")
    lora.run("export", "--ckpt_path", RUN, "--out", str(tmp_path / "whole"))
    lora.run("export", "--ckpt_path", RUN, "--out", str(tmp_path / "adapter"), "--adapter")
    whole, adapter = ((tmp_path / name).rglob("*.safetensors") for name in ("whole", "adapter"))
    assert sum(file.stat().st_size for file in adapter) < sum(file.stat().st_size for file in whole) / 4
    further = ["--trainer.max_epochs=2", "--trainer.max_steps=3", "--curriculum.accept_change=true"]
    lora.run("fit", "--ckpt_path", RUN, *further)
    assert read_checkpoint(RUN)["global_step"] == 3


@pytest.mark.parametrize(
    "command", [SPEAK, ["export", "--out=whole"], ["validate"], ["test"], ["fit"]], ids=lambda command: command[0]
)
def test_a_missing_original_is_said_in_one_line(
    hidden: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--ckpt_path", RUN]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wand: error:")]
    assert str(hidden) in line


def test_an_adapter_needs_no_original(hidden: Path, lora: Workplace) -> None:
    lora.run("export", "--ckpt_path", RUN, "--out", "alone", "--adapter")
    assert Path("alone/adapter_config.json").is_file()
