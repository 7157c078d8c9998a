"""Computes the losses of `wand.distillation.losses` from hidden states, in chunks.

The logits of a training step, ``[N, K, V]``, are its largest tensors, and autograd stores several tensors of this size.
Here, the forward pass computes the logits, the losses and the gradients of one chunk of rows before it starts the next
(as in Liger Kernel, Hsu et al. 2024), so that only one chunk of logits exists at a time. The backward pass only scales
the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from wand.distillation.divergences import expectation, find_divergence, value_and_gradient
from wand.distillation.losses import IGNORE, agreement, at_least_single, log_probabilities
from wand.distillation.terms import LossTerms

# Logits of a chunk. On a CPU they should fit in its caches; elsewhere they should keep the device busy.
CHUNK_LOGITS = {"cpu": 2**20}
CHUNK_LOGITS_ELSEWHERE = 2**23
# Minimum number of rows of a chunk. With fewer, reading the head and adding to its gradient would take longer than the
# products.
LEAST_ROWS = 128
TeacherLogits = Callable[[Tensor], Tensor]
"""Takes row indices ``[n]`` and returns the teacher's logits ``[n, K, V]``."""


class LossSums(NamedTuple):
    """Weighted sums over labels. Only `loss` has a gradient.

    Args:
        loss: The training loss.
        ce: Cross-entropy.
        kd: The chosen divergence between teacher and student, at its temperature.
        kl: KL divergence at temperature 1.
        agreement: Labels for which both models have the same most likely token.
    """

    loss: Tensor
    ce: Tensor
    kd: Tensor
    kl: Tensor
    agreement: Tensor


def linear_distillation(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    label_weights: Tensor,
    terms: LossTerms,
    teacher: TeacherLogits | None,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
) -> LossSums:
    """Sums of the losses of `wand.distillation.losses` for a linear head, in chunks.

    Gradients flow into hidden states, weight and bias. Losses and sums are float32.

    Args:
        hidden: ``[N, D]``.
        weight: ``[K, V, D]``.
        bias: ``[K, V]`` or None.
        labels: ``[N, K]``, `IGNORE` for ignored positions.
        label_weights: ``[N, K]``, the weight of each label.
        terms: The weights and settings of the loss.
        teacher: Returns the teacher's logits of the given rows. If None, kd, kl and agreement are 0.
        chunk: Rows per chunk; depends on the size of the head by default.
        dtype: The dtype in which logits are computed; that of the hidden states by default.
    """
    if chunk is None:
        chunk = chunk_rows(weight[..., 0].numel(), hidden.device.type)
    sums = _FusedDistillation.apply(
        hidden, weight, bias, labels, label_weights, terms, teacher, chunk, dtype or hidden.dtype
    )
    return LossSums(*sums)


def chunk_rows(logits: int, device: str) -> int:
    """Number of rows of a chunk, for a type of device and K * V logits per row."""
    return max(LEAST_ROWS, CHUNK_LOGITS.get(device, CHUNK_LOGITS_ELSEWHERE) // logits)


class _FusedDistillation(torch.autograd.Function):
    """The sums of `LossSums`. The forward pass also computes the gradients of the first one."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        label_weights: Tensor,
        terms: LossTerms,
        teacher: TeacherLogits | None,
        chunk: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, ...]:
        inputs = hidden, weight, bias
        d_hidden, d_weight, d_bias = (
            x.new_zeros(x.shape, dtype=at_least_single(x.dtype)) if needed and x is not None else None
            for x, needed in zip(inputs, ctx.needs_input_grad[:3], strict=True)
        )
        flat = weight.flatten(0, 1).to(dtype)
        flat_bias = None if bias is None else bias.flatten().to(dtype)
        label_weights = label_weights * (labels != IGNORE)
        totals = []
        for index in label_weights.any(-1).nonzero().squeeze(-1).split(chunk):
            rows = hidden[index].to(dtype)
            logits = functional.linear(rows, flat, flat_bias).unflatten(-1, weight.shape[:2])
            expected = None if teacher is None else teacher(index)
            sums, slope = _score(logits, expected, labels[index], label_weights[index], terms)
            totals.append(sums)
            slope = slope.flatten(1)
            if d_bias is not None:
                d_bias += slope.sum(0).view_as(d_bias)
            slope = slope.to(dtype)
            if d_hidden is not None:
                d_hidden[index] = (slope @ flat).to(d_hidden.dtype)
            if d_weight is not None:
                _add_product(d_weight.flatten(0, 1), slope.T, rows)
        made = zip((d_hidden, d_weight, d_bias), inputs, strict=True)
        ctx.save_for_backward(*(None if d is None or x is None else d.to(x.dtype) for d, x in made))
        ce, kd, kl, agreed = torch.stack(totals).sum(0)
        ctx.mark_non_differentiable(ce, kd, kl, agreed)
        return terms.ce_weight * ce + terms.kd_weight * kd, ce, kd, kl, agreed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if d is None else d * scale.to(d.dtype) for d in ctx.saved_tensors)
        return *gradients, None, None, None, None, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right``. `total` may be float32 while the factors are in half precision."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _score(
    student: Tensor, teacher: Tensor | None, labels: Tensor, label_weights: Tensor, terms: LossTerms
) -> tuple[Tensor, Tensor]:
    """Sums ``[4]`` of a chunk (ce, kd, kl, agreement), and the gradient of its loss for the student's logits."""
    targets = labels.clamp(min=0)[..., None]
    log_q = log_probabilities(student)
    ce = -log_q.gather(-1, targets).squeeze(-1)
    q = log_q.exp()
    slope = q * terms.ce_weight
    slope.scatter_add_(-1, targets, torch.full_like(slope[..., :1], -terms.ce_weight))
    if teacher is None:
        kd = kl = agreed = torch.zeros_like(ce)
    else:
        agreed = agreement(student, teacher).to(ce.dtype)
        log_p = log_probabilities(teacher)
        p = log_p.exp()
        kl = expectation(p, log_p - log_q)
        if terms.temperature != 1:
            log_q, log_p = (torch.log_softmax(x / terms.temperature, -1) for x in (log_q, log_p))
            q, p = log_q.exp(), log_p.exp()
        kd, kd_slope = value_and_gradient(find_divergence(terms.divergence), log_p, log_q, p, q, terms)
        slope.add_(kd_slope, alpha=terms.kd_weight / terms.temperature)
    sums = (torch.stack([ce, kd, kl, agreed]) * label_weights).flatten(1).sum(1)
    return sums, slope.mul_(label_weights[..., None])
