"""DDP and FSDP2 on all GPUs that are there (NCCL), or in two processes of a CPU (gloo)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.strategies import Case, compare
from tests.processes import as_torchrun, end, start

STEPS = 3  # of each of two epochs
CASES = {
    "float32": Case(),
    "mixed": Case(trainer={"precision": "bf16-mixed"}),
    "accumulated, clipped, checkpointing": Case(
        1, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, {"gradient_checkpointing": True}
    ),
}


def work(rank: int, folder: Path, name: str, accelerator: str, ranks: int) -> None:
    case = CASES[name]
    chosen = Case(case.rows, {**case.trainer, "accelerator": accelerator}, case.module)
    torch.save(compare(rank, chosen, STEPS, ranks), folder / f"{rank}.pt")


@pytest.mark.parametrize("name", CASES)
def test_fsdp2_trains_as_ddp(device: torch.device, tmp_path: Path, name: str) -> None:
    gpus = torch.cuda.device_count()
    # The utterances of a step are divided by the number of processes.
    ranks = 2 if device.type == "cpu" or gpus in (2, 3) else 1 if gpus == 1 else CASES[name].rows * 2
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    processes = start(work, (tmp_path, name, accelerator, ranks), as_torchrun(ranks), tmp_path)
    statuses = end(processes)
    assert statuses == [0] * ranks, [(tmp_path / f"{rank}.txt").read_text() for rank in range(ranks)]
    for rank in range(ranks):
        found = torch.load(tmp_path / f"{rank}.pt")
        mixed = name == "mixed"
        assert found["first gradients"] <= (5e-2 if mixed else 1e-5)
        assert found["loss, largest"] <= (5e-2 if mixed else 1e-4)
        assert found["weights"] <= (0.3 if mixed else 1e-3)
        assert found["the loss falls by"] > 0
