"""Divergences between teacher and student, chosen by ``model.loss.divergence``.

A divergence is a pure function ``(teacher, student, terms) -> nats``. It takes the log-probabilities ``[..., V]`` of
both models, already at ``terms.temperature``, and returns one value for each distribution, ``[...]``. It is called for
one chunk of rows at a time. Autograd computes its gradient, so any differentiable function works: give the import path
of your own, ``package.module.function``. All log-probabilities are finite. A token that a model forbids has about
-1e30, so that ``0 * (forbidden - forbidden)`` is 0.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from wand.distillation.terms import LossTerms

Divergence = Callable[[Tensor, Tensor, LossTerms], Tensor]

# Used as the logarithm of 0.
IMPOSSIBLE = -1e30
# Log-probabilities below this belong to forbidden tokens. A temperature may have changed their value.
FORBIDDEN = IMPOSSIBLE * 1e-6


def expectation(p: Tensor, values: Tensor) -> Tensor:
    """The mean of values under probabilities, ``[..., V]`` to ``[...]``.

    `torch.linalg.vecdot` computes the same, but in bfloat16 under CUDA's autocast.
    """
    return (p * values).sum(-1)


def forward_kl(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    """``KL(p || q)``, p the teacher, q the student: the student must cover all that the teacher would say."""
    return expectation(teacher.exp(), teacher - student)


def reverse_kl(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    """``KL(q || p)``: the student must avoid what the teacher would not say."""
    return forward_kl(student, teacher, terms)


def jsd(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    """Jensen-Shannon divergence: the mean of the KLs of p and of q to ``(p + q) / 2``. Symmetric, at most ``log 2``."""
    mixture = torch.logaddexp(teacher, student) - math.log(2)
    return (forward_kl(teacher, mixture, terms) + forward_kl(student, mixture, terms)) / 2


def skew_kl(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    """Skew KL, ``KL(p || s p + (1 - s) q)`` with s = ``terms.skew`` (DistiLLM, 2024); at most ``-log s``."""
    if terms.skew == 0:
        return forward_kl(teacher, student, terms)
    mixture = torch.logaddexp(teacher + math.log(terms.skew), student + math.log1p(-terms.skew))
    return forward_kl(teacher, mixture, terms)


DIVERGENCES: dict[str, Divergence] = {
    "skew_kl": skew_kl,
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
}


@cache
def find_divergence(name: str) -> Divergence:
    """Find a divergence by its name in `DIVERGENCES` or by its import path.

    Raises:
        ValueError: If there is no such divergence, or it cannot be called with its three arguments.
    """
    if name in DIVERGENCES:
        return DIVERGENCES[name]
    known = f"known are {', '.join(DIVERGENCES)}, or give the import path of a function"
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ValueError(f"model.loss.divergence {name!r} is unknown: {known}")
    try:
        found: Divergence = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model.loss.divergence {name!r} cannot be imported ({error}): {known}") from error
    try:
        inspect.signature(found).bind("log_p", "log_q", "terms")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"model.loss.divergence {name!r} is no divergence ({error}): it must take the log-probabilities of teacher "
            f"and student and the loss terms"
        ) from error
    return found


def value_and_gradient(
    divergence: Divergence, log_p: Tensor, log_q: Tensor, p: Tensor, q: Tensor, terms: LossTerms
) -> tuple[Tensor, Tensor]:
    """A divergence ``[...]`` and its gradient with respect to the logits of q ``[..., V]``.

    The gradient of the skew KL is a formula, which takes less time and memory than autograd.

    Args:
        divergence: The divergence.
        log_p: The teacher's log-probabilities ``[..., V]``.
        log_q: The student's.
        p: ``log_p.exp()``.
        q: ``log_q.exp()``.
        terms: Settings of the divergence.

    Raises:
        ValueError: If the divergence does not return ``[...]``.
    """
    if divergence is skew_kl:
        value, part = _skew_kl_and_part(log_p, log_q, p, q, terms.skew)
    else:
        with torch.enable_grad():
            student = log_q.detach().requires_grad_()
            value = divergence(log_p, student, terms)
            if value.shape != q.shape[:-1]:
                raise ValueError(
                    f"model.loss.divergence {terms.divergence} returns the shape {list(value.shape)} for "
                    f"log-probabilities {list(q.shape)}: it must return one value for each distribution"
                )
            (part,) = torch.autograd.grad(value.sum(), student)
        value, part = value.detach(), part.masked_fill(log_q < FORBIDDEN, 0)
    # Convert the gradient from log-probabilities to logits.
    return value, part.addcmul_(q, part.sum(-1, keepdim=True), value=-1)


def _skew_kl_and_part(log_p: Tensor, log_q: Tensor, p: Tensor, q: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    """Skew KL ``[...]`` and its gradient with respect to log q ``[..., V]``.

    With m = s p + (1 - s) q the gradient is -p q (1 - s) / m. Since m >= s p, log space is needed only if s is 0.
    """
    if skew == 0:
        # Tokens that q forbids get no gradient.
        return expectation(p, log_p - log_q), p.neg().masked_fill_(log_q < FORBIDDEN, 0)
    mixture = torch.lerp(q, p, skew).clamp_(min=torch.finfo(p.dtype).tiny)
    value = expectation(p, log_p - mixture.log())
    return value, mixture.reciprocal_().mul_(q).mul_(p).mul_(skew - 1)
