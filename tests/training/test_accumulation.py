"""Micro-batches of one step give the gradients of the batch that holds all their utterances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.accumulated import Record, fit, module_of, on_two_ranks, strategy_of
from wand.distillation.terms import LossTerms

CLIP = {"gradient_clip_val": 0.01}  # far below the norm of these gradients
LOGS = ("train/loss", "train/ce", "train/kd", "train/kl", "train/agreement", "train/grad_norm")


def difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of all gradients, relative to the norm of the expected ones."""
    assert found.keys() == expected.keys()
    apart = torch.cat([(found[name] - expected[name]).flatten() for name in expected])
    return float(apart.norm() / torch.cat([value.flatten() for value in expected.values()]).norm())


def assert_same_step(found: Record, expected: Record, step: int = 0, of: int = 0) -> None:
    assert difference(found.gradients[step], expected.gradients[of]) <= 1e-5
    for name in LOGS:
        assert found.logged[step][name] == pytest.approx(expected.logged[of][name], rel=1e-5), name


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": LossTerms(codebook_weights=[1.0, 0.001, 0.0], skew=0.3, temperature=2.0)},
        {"loss": LossTerms(ce_weight=0.0)},
        {"gradient_checkpointing": True},
    ],
    ids=["plain", "weighted", "teacher-only", "checkpointed"],
)
def test_two_micro_batches_equal_one_batch(settings: dict[str, Any]) -> None:
    whole = fit([[0, 1, 2, 3]], module_of(**settings))
    halves = fit([[0, 1], [2, 3]], module_of(**settings), accumulate_grad_batches=2)
    assert_same_step(halves, whole)


@pytest.mark.parametrize("groups", [[[0], [1], [2, 3]], [[3], [2], [1], [0]]], ids=["3", "4"])
def test_any_division_equals_one_batch_after_clipping(groups: list[list[int]]) -> None:
    whole = fit([[0, 1, 2, 3]], **CLIP)
    parts = fit(groups, accumulate_grad_batches=len(groups), **CLIP)
    assert_same_step(parts, whole)
    total = torch.cat([value.flatten() for value in parts.gradients[0].values()])
    assert float(total.norm()) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("limit", [{}, {"limit_train_batches": 3}, {"val_check_interval": 1}], ids=str)
def test_a_short_last_group_equals_its_batch(limit: dict[str, Any]) -> None:
    """Three micro-batches in groups of two: the last group has one."""
    groups = [[0, 1], [2], [3]] + ([[0]] if limit.get("limit_train_batches") else [])
    expected = fit([[0, 1, 2], [3]])
    found = fit(groups, accumulate_grad_batches=2, **limit)
    assert len(found.gradients) == 2
    assert_same_step(found, expected)
    assert_same_step(found, expected, step=1, of=1)


def work(rank: int, strategy: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Each rank has half of the utterances of every micro-batch."""
    record = fit(
        [[[0], [2]], [[1], [3]]][rank],
        module_of(gradient_checkpointing=True),
        accumulate_grad_batches=2,
        devices=2,
        strategy=strategy_of(strategy),
        **options,
    )
    return record.gradients, record.logged


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_equal_one_batch(tmp_path: Path, strategy: str) -> None:
    options = CLIP if strategy == "ddp" else {}  # Lightning does not clip by norm under FSDP2 on a CPU
    expected = fit([[0, 1, 2, 3]], **options)
    for gradients, logged in on_two_ranks(tmp_path, work, strategy, options):
        found = Record()
        found.gradients, found.logged = gradients, logged
        assert_same_step(found, expected)
