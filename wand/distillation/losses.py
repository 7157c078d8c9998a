"""The losses of WAND as pure functions of logits: cross-entropy, divergences from a teacher, their sums.

Logits are ``[..., V]``; labels ``[...]`` with `IGNORE` where nothing is learned. Divergences are computed in log space
from at least float32, so they stay finite on any finite logits; a token whose logit is -inf in both models contributes
nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wand.distillation.divergences import IMPOSSIBLE, find_divergence
from wand.distillation.terms import LossTerms

IGNORE = -100


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of every label: ``[...]``, 0 where the label is ignored."""
    flat = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view(labels.shape)


def divergence(student: Tensor, teacher: Tensor, terms: LossTerms) -> Tensor:
    """The divergence that `terms` names, at its temperature, from the logits of both models.

    Args:
        student: Logits ``[..., V]``.
        teacher: Logits ``[..., V]``; no gradient flows here.
        terms: Name, skew and temperature.

    Returns:
        ``[...]`` in nats.
    """
    log_p, log_q = (log_probabilities(logits, terms.temperature) for logits in (teacher.detach(), student))
    return find_divergence(terms.divergence)(log_p, log_q, terms)


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
    return divergence(student, teacher, LossTerms(skew=skew, temperature=temperature))


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-softmax in at least float32; finite where logits are -inf (see `wand.distillation.divergences`)."""
    logits = logits.to(at_least_single(logits.dtype))
    scaled = logits if temperature == 1 else logits / temperature
    # No gradient flows into what is clamped.
    return torch.log_softmax(scaled, dim=-1).clamp(min=IMPOSSIBLE)


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Float32, or the dtype itself if it is wider."""
    return torch.promote_types(dtype, torch.float32)


def agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Whether both models would pick the same token: bool ``[...]``."""
    return student.argmax(-1) == teacher.argmax(-1)


def masked_sum(values: Tensor, labels: Tensor) -> Tensor:
    """Sum over the places that carry a label."""
    return torch.where(labels != IGNORE, values, torch.zeros_like(values)).sum()
