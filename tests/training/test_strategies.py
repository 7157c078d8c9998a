"""Two processes with FSDP2 train as with DDP, and their checkpoints are resumed on any number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.strategies import CASES, RESUMED, Case, compare, distance, norm, resumed, resumed_on_one, train
from tests.training.accumulated import on_two_ranks
from wand.training.sharding import ShardedStrategy

STEPS = 2  # of each of two epochs


def small(rank: int, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    return compare(rank, CASES["all three"], STEPS), resumed(rank, STEPS, folder)


@pytest.mark.filterwarnings("ignore")
def test_fsdp2_equals_ddp_and_its_runs_are_resumed(tmp_path: Path) -> None:
    train(RESUMED, "auto", STEPS, 1, 0, save=tmp_path / "one.ckpt")
    for compared, again in on_two_ranks(tmp_path, small, tmp_path):
        assert compared["first gradients"] <= 1e-6
        assert compared["loss, largest"] <= 1e-5
        assert compared["weights"] <= 1e-4
        assert compared["the loss falls by"] > 0
        for kind in ("sharded", "whole"):
            assert again.pop(f"{kind}, FSDP2 on 2 to FSDP2 on 2") == 0, "bit by bit"
        assert max(again.values()) <= 1e-4
    assert max(resumed_on_one(STEPS, tmp_path).values()) <= 1e-4


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
