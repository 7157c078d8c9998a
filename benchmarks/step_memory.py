"""The peak of the memory of a training step beside the estimate of `wand.training.memory`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.held import Held
from benchmarks.memory import encodec
from wand.attention import AttentionWindow
from wand.codecs.reference import Reference
from wand.distillation.losses import IGNORE
from wand.distillation.terms import LossTerms
from wand.model.batch import make_batch
from wand.runs.settings import OptimizerSettings
from wand.training.memory import StepMemory, step_memory
from wand.training.memory_parts import Step
from wand.training.optimizer import make_optimizer
from wand.training.teacher import COPY, build_teacher

STEPS = 3


class Size(NamedTuple):
    """The size of a model and of its batches."""

    width: int
    layers: int
    rows: int
    frames: int


# On a GPU about 150 million parameters and a batch of usual size.
SIZES = {"cuda": Size(1024, 12, 8, 600), "cpu": Size(128, 2, 2, 100)}


class Measured(NamedTuple):
    """A training step: milliseconds, the peak of the memory in bytes, and its estimate."""

    milliseconds: float
    peak: int
    estimate: StepMemory


def peak_bytes(device: torch.device, work: Callable[[], object]) -> int:
    """The most bytes that a piece of work takes at once: of the allocator of a GPU, or of the tensors on a CPU."""
    if device.type == "cpu":
        with Held() as counted:
            work()
        return counted.peak
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def measure(device: torch.device, size: Size, mixed: bool, checkpointing: bool) -> Measured:
    """Train a few steps with a teacher. The time is that of the last step."""
    found: list[tuple[float, StepMemory]] = []
    peak = peak_bytes(device, lambda: found.append(_train(device, size, mixed, checkpointing)))
    return Measured(found[0][0], peak, found[0][1])


def _train(device: torch.device, size: Size, mixed: bool, checkpointing: bool) -> tuple[float, StepMemory]:
    with device:
        lm = encodec(size.width, size.layers, size.width // 64, 1, 3 * size.width).train()
    if checkpointing:
        lm.decoder.activation_checkpointing_enable({"use_reentrant": False})
    teacher = build_teacher(COPY, lm)
    optimizer, _ = make_optimizer(lm.parameters(), OptimizerSettings(), STEPS)
    codes = [torch.randint(0, lm.shape.codebook_size, (lm.num_codebooks, size.frames)) for _ in range(size.rows)]
    given = [lm.conditioner("hello there", Reference(one[:, :50])) for one in codes]
    batch = make_batch(lm.conditioner, lm.layout, given, codes).to(device)
    weights = (batch.labels != IGNORE).float() / batch.labels.numel()
    milliseconds = 0.0
    for _ in range(STEPS):
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            expected = teacher.head_input(batch)
            sums = lm.head_input(batch, AttentionWindow(32)).loss(batch.labels, weights, LossTerms(), expected)
        optimizer.zero_grad()  # where Lightning does it
        sums.loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        milliseconds = 1000 * (time.perf_counter() - began)
    columns = batch.prefix_length + batch.columns.shape[1]
    step = Step(size.rows, columns, batch.labels.shape[1], mixed, checkpointing=checkpointing, device=device.type)
    return milliseconds, step_memory(lm, step)
