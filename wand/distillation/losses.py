"""The losses of WAND as pure functions of logits: cross-entropy, divergences from a teacher, and their sums.

Logits are ``[..., V]``; labels are ``[...]``, with `IGNORE` for ignored positions. Divergences are computed in log
space and at least in float32, so they are finite for all finite logits. A token whose logit is -inf in both models
contributes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wand.distillation.divergences import IMPOSSIBLE, find_divergence
from wand.distillation.terms import LossTerms

IGNORE = -100


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of every label, ``[...]``; 0 for ignored labels."""
    flat = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view(labels.shape)


def divergence(student: Tensor, teacher: Tensor, terms: LossTerms) -> Tensor:
    """Compute the divergence that `terms` names from the logits of both models.

    Args:
        student: Logits ``[..., V]``.
        teacher: Logits ``[..., V]``; get no gradient.
        terms: Name, skew and temperature.

    Returns:
        ``[...]`` in nats.
    """
    log_p, log_q = (log_probabilities(logits, terms.temperature) for logits in (teacher.detach(), student))
    return find_divergence(terms.divergence)(log_p, log_q, terms)


def skew_kl(student: Tensor, teacher: Tensor, skew: float = 0.1, temperature: float = 1.0) -> Tensor:
    """Skew KL divergence ``KL(p || s p + (1 - s) q)``, with teacher p and student q (DistiLLM, 2024).

    It is 0 if and only if p = q, never negative, and at most ``-log(s)``. With skew 0 it is the KL divergence.

    Args:
        student: Logits ``[..., V]``.
        teacher: Logits ``[..., V]``; get no gradient.
        skew: s, the share of the teacher in the mixture, in ``[0, 1)``.
        temperature: Softmax temperature of both models.

    Returns:
        ``[...]`` in nats.
    """
    return divergence(student, teacher, LossTerms(skew=skew, temperature=temperature))


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-softmax in at least float32. It is finite even for logits of -inf (see `wand.distillation.divergences`)."""
    logits = logits.to(at_least_single(logits.dtype))
    scaled = logits if temperature == 1 else logits / temperature
    # Clamped values get no gradient.
    return torch.log_softmax(scaled, dim=-1).clamp(min=IMPOSSIBLE)


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Float32, or the dtype itself if it is wider."""
    return torch.promote_types(dtype, torch.float32)


def agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Whether both models have the same most likely token: bool ``[...]``."""
    return student.argmax(-1) == teacher.argmax(-1)


def masked_sum(values: Tensor, labels: Tensor) -> Tensor:
    """Sum over the positions that have a label."""
    return torch.where(labels != IGNORE, values, torch.zeros_like(values)).sum()
