"""A run that is killed in the middle of an epoch goes on as if nothing had happened."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.processes import command, end, start
from tests.workplace import DATA, Workplace
from wand.cli import main
from wand.runs.checkpoints import read_checkpoint
from wand.training.module import WandModule

# Without the sound and the table of a fit, which take longer than its steps.
SILENT = ["--recogniser=null", "--checkpoint.monitor=val/agreement", "--checkpoint.mode=max", "--speech.sounds=0"]


def options(workplace: Workplace, name: str) -> list[str]:
    small = [f"{DATA}.hours=0.03", "--data.batch_size=2", "--trainer.max_epochs=2"]
    return ["fit", "--config", "quickstart", *workplace.fit, *small, "--name", name]


def files(folder: Path) -> dict[Path, bytes]:
    """The content of every file of a run that is not a log."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and "tfevents" not in file.name}


def curve(folder: Path, tag: str) -> dict[int, float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


def kill_after_first_checkpoint(arguments: list[str], checkpoint: Path) -> None:
    (process,) = start(command, (arguments,), [{}], Path("logs"))
    while not checkpoint.is_file() and process.is_alive():
        time.sleep(0.01)
    process.kill()
    assert end([process]) == [-signal.SIGKILL], "the run ended before it could be killed"


def test_killed_and_resumed_equals_undisturbed(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.run(*options(workplace, "undisturbed"))
    last = Path("runs/killed/checkpoints/last.ckpt")
    kill_after_first_checkpoint(options(workplace, "killed"), last)
    reached = read_checkpoint(last)["global_step"]
    assert reached > 0
    maps: list[str] = []
    begin = WandModule.on_train_start

    def on_train_start(self: WandModule) -> None:
        maps.append(Path("/proc/self/maps").read_text())
        begin(self)

    monkeypatch.setattr(WandModule, "on_train_start", on_train_start)
    workplace.run(*options(workplace, "killed"), "--ckpt_path", "runs/killed")
    assert len(maps) == 1
    assert "killed/checkpoints" not in maps[0], "the file is mapped while it is read, and no longer"
    assert not Path("runs/killed-2").exists(), "a resumed run goes on in its own folder"
    whole, resumed = read_checkpoint("runs/undisturbed"), read_checkpoint("runs/killed")
    assert whole["global_step"] == resumed["global_step"] > reached
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, resumed["state_dict"][name]), name
    for tag in ("train/window", "train/tau", "train/loss"):
        undisturbed, continued = curve(Path("runs/undisturbed"), tag), curve(Path("runs/killed"), tag)
        assert continued.items() <= undisturbed.items()
        assert max(continued) == max(undisturbed)


def test_another_number_of_steps_is_refused_unless_accepted(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    resume = ["fit", "--ckpt_path", "runs/quickstart/checkpoints/best.ckpt", "--trainer.max_epochs=2"]
    before = files(Path("runs/quickstart"))
    assert main(resume) == 2
    error = capsys.readouterr().err
    assert "total_steps" in error
    assert "--curriculum.accept_change" in error
    assert files(Path("runs/quickstart")) == before, "a refused resume changes nothing"


def test_another_order_of_data_is_refused(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path("runs/quickstart/config.yaml").read_bytes()
    assert main(["fit", "--ckpt_path", "last", "--data.seed=1", "--trainer.max_epochs=2"]) == 2
    assert "batches differ from those of the saved run" in capsys.readouterr().err
    assert Path("runs/quickstart/config.yaml").read_bytes() == config


@pytest.mark.parametrize("accept", ["true", "false"])
def test_a_trial_changes_nothing(run: Workplace, accept: str) -> None:
    before = files(Path("runs"))
    main(["fit", "--ckpt_path", "last", "--trainer.fast_dev_run=1", f"--curriculum.accept_change={accept}"])
    assert files(Path("runs")) == before


def test_the_config_of_a_resumed_run_is_that_of_a_run(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """It has what the resume changed, and does not make a new fit with it a resume."""
    workplace.run(*options(workplace, "one"), "--trainer.max_steps=2", "--trainer.max_epochs=9", *SILENT)
    accepted = ["--trainer.max_steps=3", "--curriculum.accept_change=true"]
    workplace.run("fit", "--ckpt_path", "runs/one", *accepted)
    config = yaml.safe_load(Path("runs/one/config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 3
    assert not {"ckpt_path", "weights_only"} & set(config)
    workplace.run("fit", "--ckpt_path", "runs/one")  # it is finished, and is opened without --trust
    assert main(["fit", "--ckpt_path", "runs/one", "--trainer.max_steps=4", "--curriculum.accept_change=false"]) == 2
    assert "total_steps 3 is now 4" in capsys.readouterr().err, "the finished fit has kept the number of steps"
    workplace.run("fit", "--config", "runs/one/config.yaml", "--name", "two")
    assert read_checkpoint("runs/two")["global_step"] == 3


def test_last_without_any_run_fails(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "quickstart", "--ckpt_path", "last"]) == 2
    assert "no checkpoint in any run" in capsys.readouterr().err


def test_changed_original_weights_are_refused(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = tmp_path / "original"
    original.mkdir()
    for file in workplace.pretrained.iterdir():
        (original / file.name).write_bytes(file.read_bytes())
    model = f"--model.backbone.init_args.pretrained={original}"
    once = ["fit", "--config", "quickstart", *workplace.fit, model, "--trainer.max_steps=2"]
    workplace.run(*once)
    from wand.backbones.encodec_lm import EncodecLM

    other = EncodecLM(pretrained=str(original))
    other.save_pretrained(original)  # the same shape, other weights
    assert main([*once, "--ckpt_path", "last"]) == 2
    assert "have changed" in capsys.readouterr().err
