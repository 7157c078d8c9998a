"""The losses of WAND as pure functions: cross-entropy, skew KL, their normalisation.

Logits are ``[..., V]``; labels ``[...]`` with `IGNORE` where nothing is learned. All divergences are computed in log
space from float32 logits, so they stay finite on any finite logits; a row of the vocabulary that is -inf in both
models contributes nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = -100


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of every label: ``[...]``, 0 where the label is ignored."""
    flat = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view(labels.shape)


def skew_kl(student: Tensor, teacher: Tensor, skew: float = 0.1, temperature: float = 1.0) -> Tensor:
    """Skew KL divergence ``KL(p || s p + (1 - s) q)``, p the teacher, q the student (DistiLLM, 2024).

    With skew 0 it is the KL divergence. Zero if and only if p = q, never negative, at most ``-log(s)``.

    Args:
        student: Logits ``[..., V]``.
        teacher: Logits ``[..., V]``; no gradient flows here.
        skew: s, the teacher's share in the mixture, in ``[0, 1)``.
        temperature: Both logits are divided by it.

    Returns:
        ``[...]`` in nats.
    """
    log_p = torch.log_softmax(teacher.detach().float() / temperature, dim=-1)
    log_q = torch.log_softmax(student.float() / temperature, dim=-1)
    # -inf rows: a finite stand-in keeps 0 * (-inf - -inf) and its gradient at zero.
    impossible = torch.isneginf(log_p)
    log_p = log_p.masked_fill(impossible, -1e30)
    log_q = log_q.masked_fill(torch.isneginf(log_q), -1e30)
    log_mixture = log_q if skew == 0 else torch.logaddexp(log_p + math.log(skew), log_q + math.log1p(-skew))
    return (log_p.exp() * (log_p - log_mixture)).sum(-1)


def agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Whether both models would pick the same token: bool ``[...]``."""
    return student.argmax(-1) == teacher.argmax(-1)


def masked_sum(values: Tensor, labels: Tensor) -> Tensor:
    """Sum over the places that carry a label."""
    return torch.where(labels != IGNORE, values, torch.zeros_like(values)).sum()
