"""Every divergence against its plain formula; a divergence defined outside wand, by its import path, in a fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader

from tests.distillation.test_chunked import Gradients, Linear, distillation_loss, gradients, made
from tests.workplace import Workplace
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.distillation.divergences import DIVERGENCES, find_divergence, skew_kl, value_and_gradient
from wand.distillation.losses import IGNORE, cross_entropy, divergence
from wand.distillation.terms import LossTerms
from wand.training.module import WandModule
from wand.training.teacher import COPY, build_teacher

QUIET = ["--recogniser=null", "--checkpoint.monitor=val/agreement", "--checkpoint.mode=max"]


def plain_kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(-1)


PLAIN = {
    "skew_kl": lambda p, q, skew: plain_kl(p, skew * p + (1 - skew) * q),
    "forward_kl": lambda p, q, skew: plain_kl(p, q),
    "reverse_kl": lambda p, q, skew: plain_kl(q, p),
    "jsd": lambda p, q, skew: (plain_kl(p, (p + q) / 2) + plain_kl(q, (p + q) / 2)) / 2,
}


def total_variation(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    """A divergence that wand does not have."""
    return (teacher.exp() - student.exp()).abs().sum(-1) / 2


OWN = f"{__name__}.total_variation"


def all_logits(
    student: Linear, teacher: Linear, labels: Tensor, weights: Tensor, terms: LossTerms
) -> tuple[Tensor, ...]:
    """Loss and divergence of the plain formulas in probabilities, over all logits."""
    logits, expected = student.logits(), teacher.logits()
    q, p = ((x / terms.temperature).softmax(-1) for x in (logits, expected))
    plain = (p - q).abs().sum(-1) / 2 if terms.divergence == OWN else PLAIN[terms.divergence](p, q, terms.skew)
    weights = weights * (labels != IGNORE)
    kd = (plain * weights).sum()
    ce = -logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return terms.ce_weight * (ce * weights).sum() + terms.kd_weight * kd, kd


def test_every_divergence_has_a_formula_here() -> None:
    assert DIVERGENCES.keys() == PLAIN.keys()


@pytest.mark.parametrize("name", [*PLAIN, OWN])
@given(
    seed=st.integers(0, 10_000),
    bias=st.booleans(),
    chunk=st.integers(1, 10),
    skew=st.sampled_from([0.0, 0.1, 0.6]),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_values_and_gradients_are_those_of_the_formula(
    name: str, seed: int, bias: bool, chunk: int, skew: float, temperature: float
) -> None:
    student, teacher, labels, weights = made(seed, bias=bias)
    terms = LossTerms(0.5, 2.0, skew, temperature, name)
    own = distillation_loss(student, teacher, labels, weights, terms, chunk)
    loss, kd = all_logits(student, teacher, labels, weights, terms)
    torch.testing.assert_close(own.kd, kd, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(own.loss, loss, atol=1e-9, rtol=1e-9)
    for mine, true in zip(gradients(own.loss, student), gradients(loss, student), strict=True):
        torch.testing.assert_close(mine, true, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("skew", [0.0, 0.1, 0.9])
def test_the_written_gradient_of_the_skew_kl_is_autograds(skew: float) -> None:
    log_p, log_q = torch.randn(2, 50, 3, 7, dtype=torch.float64).mul(3).log_softmax(-1)
    terms = LossTerms(skew=skew)
    value, gradient = value_and_gradient(skew_kl, log_p, log_q, log_p.exp(), log_q.exp(), terms)
    by_autograd = lambda *arguments: skew_kl(*arguments)  # noqa: E731 - another function, without a written gradient
    expected = value_and_gradient(by_autograd, log_p, log_q, log_p.exp(), log_q.exp(), terms)
    torch.testing.assert_close((value, gradient), expected)


@pytest.mark.parametrize("name", PLAIN)
def test_equals_have_none_and_tokens_that_both_forbid_count_for_nothing(name: str) -> None:
    student, teacher = torch.randn(2, 20, 6)
    terms = LossTerms(divergence=name)
    torch.testing.assert_close(divergence(student, student + 5, terms), torch.zeros(20), atol=1e-6, rtol=0)
    student[:, 2] = teacher[:, 2] = float("-inf")
    student.requires_grad_()
    value = divergence(student, teacher, terms)
    kept = [0, 1, 3, 4, 5]
    torch.testing.assert_close(value, divergence(student[:, kept], teacher[:, kept], terms))
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert gradient.isfinite().all()
    assert not gradient[:, 2].any()


def test_bounds_and_symmetry() -> None:
    student, teacher = 20 * torch.randn(2, 200, 6)
    jsd = LossTerms(divergence="jsd")
    value = divergence(student, teacher, jsd)
    torch.testing.assert_close(value, divergence(teacher, student, jsd))
    assert value.max() <= math.log(2) + 1e-6
    forward, reverse = (
        divergence(student, teacher, LossTerms(divergence=name)) for name in ("forward_kl", "reverse_kl")
    )
    assert not torch.allclose(forward, reverse)
    torch.testing.assert_close(reverse, divergence(teacher, student, LossTerms(divergence="forward_kl")))


def test_a_divergence_never_sees_more_than_a_chunk() -> None:
    student, teacher, labels, weights = made()
    seen.clear()
    distillation_loss(student, teacher, labels, weights, LossTerms(divergence=f"{__name__}.watched"), chunk=2)
    rows = int((labels != IGNORE).any(-1).sum())
    assert max(seen) == 2
    assert sum(seen) == rows


seen: list[int] = []


def watched(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    seen.append(len(student))
    return total_variation(teacher, student, terms)


def one_number(teacher: Tensor, student: Tensor, terms: LossTerms) -> Tensor:
    return total_variation(teacher, student, terms).sum()


def test_a_divergence_that_returns_another_shape_is_refused() -> None:
    terms = LossTerms(divergence=f"{__name__}.one_number")
    with pytest.raises(ValueError, match=r"one_number returns the shape \[\] for log-probabilities \[2, 2, 7\]"):
        distillation_loss(*made(), terms, 2)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="'kl' is unknown: known are skew_kl, forward_kl"):
        find_divergence("kl")
    with pytest.raises(ValueError, match=r"'wand.distillation.divergences.kl' cannot be imported"):
        find_divergence("wand.distillation.divergences.kl")


def test_a_skew_without_effect_warns(tiny_lm: EncodecLM) -> None:
    with pytest.warns(UserWarning, match=r"model\.loss\.skew 0\.3 has no effect: model\.loss\.divergence is jsd"):
        WandModule(tiny_lm, window=8, loss=LossTerms(skew=0.3, divergence="jsd"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["reverse_kl", OWN])
def test_a_training_step_learns_from_it(tiny_lm: EncodecLM, random_batch: Any, name: str) -> None:
    batch, terms = random_batch(tiny_lm), LossTerms(divergence=name)
    module = WandModule(tiny_lm, window=8, loss=terms)
    module.teacher = build_teacher(COPY, tiny_lm)
    weights = (batch.labels != IGNORE) / (batch.labels != IGNORE).sum()
    logits, expected = tiny_lm(batch, AttentionWindow(8)), tiny_lm(batch, AttentionWindow())
    kd = (divergence(logits, expected, terms) * weights).sum()
    loss = (cross_entropy(logits, batch.labels) * weights).sum() + kd
    true = torch.autograd.grad(loss, list(tiny_lm.parameters()))
    kept = Gradients()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_steps=1, callbacks=[kept], enable_model_summary=False, **quiet)
    trainer.fit(module, DataLoader([batch], batch_size=None))
    assert float(trainer.callback_metrics["train/kd"]) == pytest.approx(float(kd), rel=1e-4)
    for (parameter, _), gradient in zip(tiny_lm.named_parameters(), true, strict=True):
        torch.testing.assert_close(kept.of[f"backbone.{parameter}"], gradient, atol=1e-5, rtol=1e-3)


def test_a_file_of_ones_own_by_the_command_line(workplace: Workplace) -> None:
    Path("own_divergences.py").write_text(
        "def squared(teacher, student, terms):\n    return (teacher.exp() - student.exp()).square().sum(-1)\n"
    )
    options = ["--model.loss.divergence=own_divergences.squared", "--model.loss.ce_weight=0", "--trainer.max_steps=2"]
    workplace.run("fit", "--config", "quickstart", *workplace.fit, *options, *QUIET)
    events = EventAccumulator("runs/quickstart")
    events.Reload()
    kd, loss, kl = ([e.value for e in events.Scalars(f"train/{name}")] for name in ("kd", "loss", "kl"))
    assert len(kd) == 2
    assert kd == loss
    # Pinsker: the squared distance is at most twice the KL.
    assert all(0 < own <= 2 * true for own, true in zip(kd, kl, strict=True))
    workplace.run("test", "--ckpt_path", "runs/quickstart", "--trainer.enable_progress_bar=false", *QUIET)


@pytest.mark.parametrize("name", ["os.system", "math.pi", "os.getcwd"])
def test_what_takes_no_log_probabilities_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"model.loss.divergence '{name}' is no divergence"):
        find_divergence(name)
