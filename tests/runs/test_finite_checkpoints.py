"""Checkpoints never hold numbers that are not finite, and weights that do are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import wand
from tests.workplace import Workplace
from wand.callbacks import ModelCheckpoint
from wand.cli import main
from wand.distillation.terms import LossTerms
from wand.finite import tensors_in
from wand.model.adapters import find_backbone
from wand.recognition import open_recogniser
from wand.runs.finite_checkpoints import FiniteCheckpoints

NAN, INF = float("nan"), float("inf")


def poisoned(tensor: Tensor, value: float = NAN) -> Tensor:
    """The tensor with one value replaced, the last one."""
    made = tensor.clone()
    made.view(-1)[-1] = value
    return made


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("place", ["weights", "moments"])
def test_the_older_checkpoint_stays(tmp_path: Path, place: str, dtype: torch.dtype, value: float) -> None:
    files = FiniteCheckpoints(TorchCheckpointIO())

    def checkpoint(weight: Tensor, moment: Tensor, step: int) -> dict[str, Any]:
        states = [{"state": {0: {"step": torch.tensor(float(step)), "exp_avg": moment}}, "param_groups": [{"lr": 1}]}]
        return {"state_dict": {"ids": torch.arange(3), "weight": weight}, "optimizer_states": states, "step": step}

    good = torch.ones(5, dtype=dtype)
    files.save_checkpoint(checkpoint(good, good, 1), tmp_path / "last.ckpt")
    files.save_checkpoint(checkpoint(good, good, 2), tmp_path / "last.ckpt")
    bad = poisoned(good, value)
    damaged = checkpoint(bad, good, 3) if place == "weights" else checkpoint(good, bad, 3)
    name = "state_dict.weight" if place == "weights" else "optimizer_states.0.state.0.exp_avg"
    with pytest.warns(UserWarning, match=f"last.ckpt is not written.*'{name}'.*older file is kept"):
        files.save_checkpoint(damaged, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt")["step"] == 2


class Scored(LightningModule):
    """Logs the given validation metrics, one per epoch."""

    def __init__(self, metrics: list[float]) -> None:
        super().__init__()
        self.metrics = metrics
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight * 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/agreement", self.metrics[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("mode", "metrics", "best"),
    [
        ("max", [NAN, 0.2, 0.1], 1),
        ("max", [0.2, NAN, 0.1], 0),
        ("max", [0.2, INF, 0.3], 2),
        ("min", [NAN, 5.0, NAN], 1),
        ("min", [-INF, 5.0, 4.0], 2),
        ("max", [NAN, NAN, NAN], None),
    ],
)
def test_a_metric_that_is_not_finite_is_never_the_best(
    tmp_path: Path, mode: str, metrics: list[float], best: int | None
) -> None:
    keeps = ModelCheckpoint(
        tmp_path, "best", monitor="val/agreement", mode=mode, enable_version_counter=False, save_weights_only=True
    )
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[keeps],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scored(metrics), [torch.zeros(1)], [torch.zeros(1)])
    found = tmp_path / "best.ckpt"
    assert found.is_file() == (best is not None)
    if best is not None:
        assert torch.load(found, weights_only=True)["epoch"] == best
        assert keeps.best_model_score == metrics[best]


@pytest.mark.parametrize("value", [NAN, INF])
def test_original_weights_are_refused_by_name(pretrained: Path, tmp_path: Path, value: float) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(pretrained, folder)
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[3]
    save_file({**weights, name: poisoned(weights[name], value)}, folder / "model.safetensors")
    backbone = find_backbone("EncodecLM")(pretrained=str(folder))
    with pytest.raises(ValueError, match=f"not finite.*'{name}'"):
        backbone.load_pretrained()


def test_a_checkpoint_is_refused_by_name(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = torch.load("runs/quickstart/checkpoints/last.ckpt", weights_only=True)
    name = next(name for name in checkpoint["state_dict"] if name.endswith("o_proj.weight"))
    good = checkpoint["state_dict"][name]
    damaged = tmp_path / "run" / "checkpoints" / "last.ckpt"
    damaged.parent.mkdir(parents=True)
    shutil.copy("runs/quickstart/config.yaml", tmp_path / "run")
    torch.save({**checkpoint, "state_dict": {**checkpoint["state_dict"], name: poisoned(good)}}, damaged)
    own = name.removeprefix("backbone.")
    with pytest.raises(ValueError, match=f"not finite.*'{own}'"):
        wand.load(damaged)
    for command in ("fit", "test"):
        assert main([command, "--ckpt_path", str(damaged), *run.data]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wand: error")]
        assert name in line
        assert "not finite" in line
    # The weights are right, the moments of the optimizer are not.
    state = checkpoint["optimizer_states"][0]["state"][0]
    state["exp_avg"] = poisoned(state["exp_avg"])
    torch.save(checkpoint, damaged)
    wand.load(damaged)
    assert main(["fit", "--ckpt_path", str(damaged), *run.data]) == 2
    assert "optimizer.0.state.0.exp_avg" in capsys.readouterr().err


def test_a_recogniser_is_refused_by_name(tmp_path: Path) -> None:
    from wand.assets import asset_folder
    from wand.recognition.embedded import load_network

    folder = tmp_path / "recogniser"
    shutil.copytree(asset_folder("recogniser"), folder)
    weights = load_file(folder / "model.safetensors")
    name = min(weights)
    save_file({**weights, name: poisoned(weights[name])}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"not finite.*'{name}'"):
        load_network(folder)
    open_recogniser("embedded")


calls = []


def bad_in_the_second_step(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    """The KL divergence, but NaN in the second step. One call checks the divergence, then each step makes two."""
    calls.append(len(calls))
    divergence = (teacher.exp() * (teacher - student)).sum(-1)
    return divergence * NAN if len(calls) == 4 else divergence


def test_a_fit_goes_on_after_a_bad_batch(workplace: Workplace) -> None:
    calls.clear()
    loss = f"--model.loss.divergence={__name__}.{bad_in_the_second_step.__name__}"
    small = ["--config", "quickstart", *workplace.fit, "--name", "bad", "--trainer.max_steps=4", loss]
    with pytest.warns(UserWarning, match="step 1 is skipped: the loss of utterances? '"):
        workplace.run("fit", *small, "--last_checkpoint.every_n_train_steps=1")
    for file in ("last", "best"):
        checkpoint = torch.load(f"runs/bad/checkpoints/{file}.ckpt", weights_only=True)
        assert checkpoint["wand"]["skipped_steps"]["total"] == 1
        for name in ("state_dict", "optimizer_states"):
            assert all(tensor.isfinite().all() for _, tensor in tensors_in(checkpoint[name]))
    events = EventAccumulator("runs/bad").Reload()
    assert [event.value for event in events.Scalars("train/skipped_steps")] == [0, 1, 1, 1]


def test_a_fit_that_breaks_its_weights_keeps_the_good_checkpoint(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """float16 weights are NaN after the first step of AdamW, so nothing may be saved."""
    small = ["--config", "quickstart", *workplace.fit, "--name", "half", "--trainer.max_steps=4"]
    assert main(["fit", *small, "--trainer.precision=16-true", "--last_checkpoint.every_n_train_steps=1"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wand: error")]
    assert "the weights are not finite" in line
    assert "trainer.precision" in line
    assert not list(Path("runs/half/checkpoints").glob("*.ckpt"))
