"""Two processes with FSDP2 train as with DDP, and their checkpoints are resumed on any number of processes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.tensor import DTensor

from benchmarks.strategies import CASES, RESUMED, Case, compare, distance, norm, resumed, resumed_on_one, train
from tests.training.accumulated import fit, on_two_ranks
from wand.runs.checkpoint_io import WholeCheckpoints
from wand.runs.checkpoints import read_checkpoint
from wand.runs.finite_checkpoints import FiniteCheckpoints
from wand.runs.sharded import is_sharded
from wand.training.sharding import ShardedStrategy

STEPS = 2  # of each of two epochs


def small(rank: int, folder: Path) -> tuple[dict[str, float], ...]:
    return compare(rank, CASES["all three"], STEPS), resumed(rank, STEPS, folder), compare(rank, CASES["LoRA"], STEPS)


@pytest.mark.filterwarnings("ignore")
def test_fsdp2_equals_ddp_and_its_runs_are_resumed(tmp_path: Path) -> None:
    train(RESUMED, "auto", STEPS, 1, 0, save=tmp_path / "one.ckpt")
    for plain, again, lora in on_two_ranks(tmp_path, small, tmp_path):
        for compared in (plain, lora):
            assert compared["first gradients"] <= 1e-6
            assert compared["loss, largest"] <= 1e-5
            assert compared["weights"] <= 1e-4
            assert compared["the loss falls by"] > 0
        for kind in ("sharded", "whole"):
            assert again.pop(f"{kind}, FSDP2 on 2 to FSDP2 on 2") == 0, "bit by bit"
        assert max(again.values()) <= 1e-4
    assert max(resumed_on_one(STEPS, tmp_path).values()) <= 1e-4


class SaveTwice(Callback):
    """Saves after each of two steps. Before the second time, the part of one rank is not finite."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.path, self.rank, self.warned = folder / "last.ckpt", rank, ""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # Without sharding, every rank has the whole parameter.
        own = next(pl_module.parameters()).detach()
        own = own.to_local() if isinstance(own, DTensor) else own
        kept = own.clone()
        if trainer.global_step == 2 and self.rank == 1:
            own.view(-1)[-1] = float("nan")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.save_checkpoint(self.path)
        self.warned = " ".join(str(one.message) for one in caught)
        own.copy_(kept)


def broken(rank: int, folder: Path, distributed: bool) -> str:
    saving = SaveTwice(folder, rank)
    settings = {"devices": 2, "strategy": ShardedStrategy(distributed), "callbacks": [saving]}
    fit([[rank]] * 2, plugins=[FiniteCheckpoints(WholeCheckpoints())], **settings)
    return saving.warned


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("distributed", [True, False])
def test_a_checkpoint_that_is_not_finite_on_one_rank_is_not_written(tmp_path: Path, distributed: bool) -> None:
    warned, _ = on_two_ranks(tmp_path, broken, tmp_path, distributed)  # rank 0 speaks for all
    assert "last.ckpt is not written, because 'state_dict." in warned
    assert "the older file is kept" in warned
    assert is_sharded(tmp_path / "last.ckpt") == distributed
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 1


@pytest.mark.filterwarnings("ignore")
def test_layers_gathered_in_bfloat16_are_those_of_autocast() -> None:
    half = Case(trainer={"precision": "bf16-mixed"})
    full, whole = (train(case, "auto", 1, 1, 0).gradients for case in (RESUMED, half))
    try:
        sharded = train(half, ShardedStrategy(), 1, 1, 0).gradients
    finally:
        torch.distributed.destroy_process_group()
    assert 0 < distance(sharded, whole) < 0.05 * distance(full, whole)
    assert distance(sharded, whole) < 1e-3 * norm(whole)
