"""Training on the device beside training on a CPU, and the memory of a step beside its estimate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.step_memory import SIZES, measure
from tests.training.accumulated import Record, fit, module_of
from wand.backbones.encodec_lm import EncodecLM
from wand.model.batch import ConditionedBatch
from wand.training.random_state import random_state, restore_random_state

GROUPS = [[0, 1], [2], [3], [1, 2]]


def accelerator(device: torch.device) -> str:
    return "gpu" if device.type == "cuda" else "cpu"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_a_fit_is_that_of_a_cpu(device: torch.device, precision: str, checkpointing: bool) -> None:
    def trained(where: str, precision: str) -> Record:
        module = module_of(gradient_checkpointing=checkpointing)
        return fit(GROUPS, module, accelerator=where, devices=1, precision=precision, accumulate_grad_batches=2)

    own, expected = trained(accelerator(device), precision), trained("cpu", "32-true")
    exact = precision == "32-true"
    for made, right in zip(own.gradients, expected.gradients, strict=True):
        difference = torch.cat([(made[name].cpu() - right[name]).flatten() for name in right]).norm()
        size = torch.cat([gradient.flatten() for gradient in right.values()]).norm()
        assert difference <= (1e-3 if exact else 0.1) * size
    for logged, right_log in zip(own.logged, expected.logged, strict=True):
        for name in ("train/loss", "train/ce", "train/kd", "train/kl"):
            assert logged[name] == pytest.approx(right_log[name], rel=1e-3 if exact else 0.05), name


def test_random_numbers_go_on_where_they_were(device: torch.device) -> None:
    state = random_state(device)
    expected = torch.randn(3, device=device), torch.randn(3)
    restore_random_state(state, device)
    assert all(
        torch.equal(a, b) for a, b in zip((torch.randn(3, device=device), torch.randn(3)), expected, strict=True)
    )


def test_a_batch_is_made_in_pinned_memory_and_copied(
    device: torch.device, tiny_lm: EncodecLM, random_batch: Callable[..., ConditionedBatch]
) -> None:
    batch = random_batch(tiny_lm)
    there = (batch.pin_memory() if device.type == "cuda" else batch).to(device)
    assert there.labels.device.type == device.type
    assert torch.equal(there.to("cpu").labels, batch.labels)
    assert torch.equal(there.to("cpu").conditioning["ids"], batch.conditioning["ids"])


@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_the_estimate_is_near_the_peak(device: torch.device, mixed: bool, checkpointing: bool) -> None:
    measured = measure(device, SIZES[device.type], mixed, checkpointing)
    assert measured.estimate.total == pytest.approx(measured.peak, rel=0.05), measured
