"""The best checkpoint of a run that has moved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from wand.callbacks import ModelCheckpoint


class Scored(LightningModule):
    """Has the given score after each epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.scores = scores

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("score", self.scores[self.current_epoch])
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, scores: list[float], resume: Path | None = None, **settings: Any) -> ModelCheckpoint:
    best = ModelCheckpoint(monitor="score", mode="max", **{"filename": "best", **settings})
    last = ModelCheckpoint(filename="last", every_n_epochs=1, enable_version_counter=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=len(scores),
        logger=False,
        callbacks=[best, last],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Scored(scores), DataLoader([torch.zeros(1)]), ckpt_path=resume, weights_only=True)
    return best


def epoch_of(file: Path) -> int:
    return int(torch.load(file, weights_only=True)["epoch"])


def moved(old: Path, new: Path) -> None:
    old.rename(new)


def linked(old: Path, new: Path) -> None:
    new.symlink_to(old)


@pytest.mark.filterwarnings("ignore:.*num_workers")
@pytest.mark.parametrize("way", [moved, linked, shutil.copytree])
def test_the_best_checkpoint_stays_the_best_under_another_path(tmp_path: Path, way: Any) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    own = {"enable_version_counter": False}
    fit(one, [0.5, 0.9], **own)
    way(one, two)
    found = two / "checkpoints"
    again = fit(two, [0.5, 0.9, 0.7], found / "last.ckpt", **own)
    assert float(again.best_model_score) == pytest.approx(0.9)
    assert again.best_model_path == str(found / "best.ckpt")
    assert epoch_of(found / "best.ckpt") == 1, "a worse one does not replace it"
    better = fit(two, [0.5, 0.9, 0.7, 0.95], found / "last.ckpt", **own)
    assert float(better.best_model_score) == pytest.approx(0.95)
    assert epoch_of(found / "best.ckpt") == 3


@pytest.mark.filterwarnings("ignore:.*num_workers")
def test_several_best_checkpoints_move(tmp_path: Path) -> None:
    several = {"filename": "{epoch}", "save_top_k": 2}
    fit(tmp_path / "one", [0.5, 0.9, 0.7], **several)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    found = tmp_path / "two" / "checkpoints"
    again = fit(tmp_path / "two", [0.5, 0.9, 0.7, 0.8], found / "last.ckpt", **several)
    assert {Path(path) for path in again.best_k_models} == {found / "epoch=1.ckpt", found / "epoch=3.ckpt"}
    assert {file.name for file in found.iterdir()} == {"epoch=1.ckpt", "epoch=3.ckpt", "last.ckpt"}
    assert (tmp_path / "one" / "checkpoints" / "epoch=2.ckpt").exists(), "the original stays as it is"


@pytest.mark.filterwarnings("ignore:.*num_workers", "ignore:The dirpath has changed")
def test_a_new_run_from_another_ones_checkpoint_has_its_own_best(tmp_path: Path) -> None:
    fit(tmp_path / "one", [0.5, 0.9])
    begun = tmp_path / "one" / "checkpoints" / "last.ckpt"
    fit(tmp_path / "two", [0.5, 0.9, 0.7], begun)
    assert epoch_of(tmp_path / "two" / "checkpoints" / "best.ckpt") == 2
    assert epoch_of(tmp_path / "one" / "checkpoints" / "best.ckpt") == 1
