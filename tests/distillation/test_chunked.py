"""The fused losses against their plain formulas, differentiated by autograd in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.distillation.chunked import LossSums
from wand.distillation.losses import IGNORE, agreement, cross_entropy, skew_kl
from wand.distillation.terms import LossTerms
from wand.model.heads import HeadInput, LinearHead
from wand.training.module import WandModule
from wand.training.teacher import COPY, build_teacher

ROWS, WIDTH = 9, 6
shapes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "codebooks": st.integers(1, 3),
        "vocabulary": st.integers(2, 11),
        "bias": st.booleans(),
        "scale": st.sampled_from([0.1, 1.0, 10.0]),
    }
)
weights = st.tuples(st.sampled_from([0.0, 1.0, 0.3]), st.sampled_from([0.0, 1.0, 2.0])).filter(any)
all_terms = st.builds(
    lambda weights, skew, temperature: LossTerms(*weights, skew, temperature),
    weights,
    skew=st.sampled_from([0.0, 0.1, 0.5, 0.99]),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
)


class Linear(NamedTuple):
    """Hidden states and the parts of a linear head: what gradients flow into."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None

    def head_input(self) -> HeadInput:
        return HeadInput(self.hidden, LinearHead(self.weight, self.bias))

    def logits(self) -> Tensor:
        return self.head_input().logits()


def distillation_loss(
    student: Linear,
    teacher: Linear | None,
    labels: Tensor,
    weights: Tensor,
    terms: LossTerms,
    chunk: int | None = None,
) -> LossSums:
    """The fused loss."""
    expected = None if teacher is None else teacher.head_input()
    return LinearHead(student.weight, student.bias).loss(student.hidden, labels, weights, terms, expected, chunk)


def made(
    seed: int = 0, codebooks: int = 2, vocabulary: int = 7, bias: bool = True, scale: float = 1.0
) -> tuple[Linear, Linear, Tensor, Tensor]:
    """Student, teacher, labels of which every third is ignored, weights that differ by codebook; all float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def linear() -> Linear:
        bias_rows = draw(codebooks, vocabulary) if bias else None
        return Linear(draw(3, ROWS // 3, WIDTH), scale * draw(codebooks, vocabulary, WIDTH), bias_rows)

    student, teacher = linear(), linear()
    labels = torch.randint(0, vocabulary, (3, ROWS // 3, codebooks), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.4] = IGNORE
    weights = torch.linspace(1, 0.25, codebooks).expand(labels.shape)
    return learning(student), teacher, labels, weights


def learning(head: Linear) -> Linear:
    return Linear(*(None if x is None else x.detach().clone().requires_grad_() for x in head))


def single(head: Linear) -> Linear:
    return learning(Linear(*(None if x is None else x.float() for x in head)))


def plain(student: Linear, teacher: Linear | None, labels: Tensor, weights: Tensor, terms: LossTerms) -> LossSums:
    """As the formulas read, in probabilities, over one label after the other."""

    def probabilities(head: Linear, temperature: float) -> Tensor:
        logits = torch.einsum("...d,kvd->...kv", head.hidden, head.weight)
        return ((logits if head.bias is None else logits + head.bias) / temperature).softmax(-1)

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum()

    sums = dict.fromkeys(("ce", "kd", "kl", "agreement"), torch.zeros((), dtype=torch.float64))
    for place in (labels != IGNORE).nonzero().tolist():
        at, weight = tuple(place), weights[tuple(place)].double()
        q, soft_q = (probabilities(student, t)[at] for t in (1.0, terms.temperature))
        sums["ce"] = sums["ce"] - weight * q[labels[at]].log()
        if teacher is not None:
            p, soft_p = (probabilities(teacher, t)[at] for t in (1.0, terms.temperature))
            mixture = terms.skew * soft_p + (1 - terms.skew) * soft_q
            sums["kd"] = sums["kd"] + weight * divergence(soft_p, mixture)
            sums["kl"] = sums["kl"] + weight * divergence(p, q)
            sums["agreement"] = sums["agreement"] + weight * (p.argmax() == q.argmax())
    return LossSums(terms.ce_weight * sums["ce"] + terms.kd_weight * sums["kd"], **sums)


def by_logits(
    student: Linear | HeadInput, teacher: Linear | HeadInput, labels: Tensor, weights: Tensor, terms: LossTerms
) -> LossSums:
    """The pure functions of `wand.distillation.losses` over all logits."""
    logits, expected = student.logits(), teacher.logits()
    weights = weights * (labels != IGNORE)
    ce = (cross_entropy(logits, labels) * weights).sum()
    kd = (skew_kl(logits, expected, terms.skew, terms.temperature) * weights).sum()
    kl = (skew_kl(logits, expected, 0.0) * weights).sum()
    return LossSums(
        terms.ce_weight * ce + terms.kd_weight * kd, ce, kd, kl, (agreement(logits, expected) * weights).sum()
    )


def gradients(loss: Tensor, head: Linear) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [x for x in head if x is not None], materialize_grads=True))


def assert_same(own: LossSums, expected: LossSums, **tolerance: float) -> None:
    for name, value, other in zip(LossSums._fields, own, expected, strict=True):
        torch.testing.assert_close(value, other, check_dtype=False, msg=lambda m, n=name: f"{n}: {m}", **tolerance)


@given(shapes, all_terms, st.integers(1, ROWS + 1), st.booleans())
def test_sums_and_gradients_are_the_plain_formulas(shape, terms, chunk, with_teacher):
    student, teacher, labels, weights = made(**shape)
    teacher = teacher if with_teacher else None
    own = distillation_loss(student, teacher, labels, weights, terms, chunk)
    expected = plain(student, teacher, labels, weights, terms)
    assert_same(own, expected, atol=1e-9, rtol=1e-9)
    if expected.loss.requires_grad:
        for mine, true in zip(gradients(own.loss, student), gradients(expected.loss, student), strict=True):
            torch.testing.assert_close(mine, true, atol=1e-9, rtol=1e-9)


@given(shapes, all_terms, st.integers(1, ROWS + 1))
def test_in_single_precision_they_are_the_pure_functions(shape, terms, chunk):
    student, teacher, labels, weights = made(**shape)
    student, teacher = single(student), single(teacher)
    own = distillation_loss(student, teacher, labels, weights, terms, chunk)
    expected = by_logits(student, teacher, labels, weights, terms)
    assert_same(own, expected, atol=1e-4, rtol=1e-4)
    for mine, true in zip(gradients(own.loss, student), gradients(expected.loss, student), strict=True):
        torch.testing.assert_close(mine, true, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("terms", [LossTerms(), LossTerms(0.5, 2.0, 0.0, 3.0)])
def test_gradcheck(terms):
    student, teacher, labels, weights = made()

    def loss(*student: Tensor) -> Tensor:
        return distillation_loss(Linear(*student), teacher, labels, weights, terms, 2).loss

    assert torch.autograd.gradcheck(loss, tuple(student))


@pytest.mark.parametrize("skew", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("forbidding", ["both", "student", "teacher"])
def test_rows_of_the_vocabulary_that_are_forbidden(skew, temperature, forbidding):
    student, teacher, labels, weights = made()
    labels[labels == 2] = 0
    if forbidding in ("student", "both"):
        student.bias.data[:, 2] = float("-inf")
    if forbidding in ("teacher", "both"):
        teacher.bias[:, 2] = float("-inf")
    student, teacher = single(student), single(teacher)
    terms = LossTerms(skew=skew, temperature=temperature)
    own = distillation_loss(student, teacher, labels, weights, terms, 4)
    expected = by_logits(student, teacher, labels, weights, terms)
    # Where the student forbids what the teacher says, the KL is no number that means anything.
    meant = ("ce", "kl", "agreement", *(("kd", "loss") if forbidding != "student" or skew > 0 else ()))
    for name in meant if forbidding != "student" else set(meant) - {"kl"}:
        torch.testing.assert_close(getattr(own, name), getattr(expected, name), atol=1e-4, rtol=1e-4)
    assert all(value.isfinite() for value in own)
    for mine, true in zip(gradients(own.loss, student), gradients(expected.loss, student), strict=True):
        torch.testing.assert_close(mine, true, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("skew", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_extreme_logits_are_finite(skew, temperature):
    levels = torch.tensor([1e4, -1e4, 0.0])
    heads = [levels[list(order)].view(1, 3, 1) for order in ((0, 1, 2), (1, 0, 0))]
    student, teacher = (Linear(torch.ones(2, 1), weight, None) for weight in heads)
    student = learning(student)
    labels = torch.tensor([[0], [1]])
    sums = distillation_loss(student, teacher, labels, torch.ones(2, 1), LossTerms(1, 1, skew, temperature))
    assert all(value.isfinite() for value in sums)
    assert all(slope.isfinite().all() for slope in gradients(sums.loss, student))


def test_places_without_labels_have_no_part():
    student, teacher, labels, weights = made()
    student.hidden.data[labels.eq(IGNORE).all(-1)] = float("nan")
    labels[0, 0] = IGNORE
    student.hidden.data[0, 0] = float("nan")
    sums = distillation_loss(student, teacher, labels, weights, LossTerms(), 2)
    assert sums.loss.isfinite()
    d_hidden, *others = gradients(sums.loss, student)
    assert not d_hidden[0, 0].any()
    assert all(slope.isfinite().all() for slope in (d_hidden, *others))


def test_nothing_to_learn_is_zero_with_gradients():
    """A rank whose share holds no label still takes part in the reduction of gradients."""
    student, teacher, labels, weights = made()
    sums = distillation_loss(student, teacher, torch.full_like(labels, IGNORE), weights, LossTerms())
    assert not torch.stack(list(sums)).any()
    assert all(not slope.any() for slope in gradients(sums.loss, student))


def test_the_way_back_scales_and_only_what_learns_gets_gradients():
    student, teacher, labels, weights = made()
    frozen = student._replace(weight=student.weight.detach())
    sums = distillation_loss(frozen, teacher, labels, weights, LossTerms())
    (3 * sums.loss).backward(retain_graph=True)
    once = student.hidden.grad.clone()
    (3 * sums.loss).backward()
    torch.testing.assert_close(student.hidden.grad, 2 * once)
    (expected,) = torch.autograd.grad(3 * plain(student, teacher, labels, weights, LossTerms()).loss, student.hidden)
    torch.testing.assert_close(once, expected)
    assert not any(value.requires_grad for value in sums[1:])
    assert student.weight.grad is None
    assert student.bias.grad is not None


def test_autocast_multiplies_in_half_precision_and_adds_up_in_single():
    student, teacher, labels, weights = made(vocabulary=50)
    student, teacher = single(student), single(teacher)
    with torch.autocast("cpu", torch.bfloat16):
        own = distillation_loss(student, teacher, labels, weights, LossTerms(), 3)
        expected = by_logits(student, teacher, labels, weights, LossTerms())
    assert {value.dtype for value in own} == {torch.float32}
    assert_same(own, expected, atol=1e-4, rtol=2e-3)  # a product of other shape may round otherwise
    exact = by_logits(student, teacher, labels, weights, LossTerms())
    for mine, other, true in zip(*(gradients(sums.loss, student) for sums in (own, expected, exact)), strict=True):
        assert mine.dtype == torch.float32
        assert (mine - other).norm() <= 0.02 * true.norm()
        assert (mine - true).norm() <= 0.02 * true.norm()


class Gradients(Callback):
    """Keeps the gradients of the last step."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.of = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": LossTerms(codebook_weights=[1.0, 0.5, 0.0], skew=0.3, temperature=2.0)},
        {"gradient_checkpointing": True},
    ],
    ids=["plain", "weighted", "checkpointed"],
)
def test_a_training_step_is_that_of_all_logits(tiny_lm: EncodecLM, random_batch: Any, settings: dict[str, Any]) -> None:
    """Two micro-batches of one step, against the pure functions and autograd."""
    batches = [random_batch(tiny_lm), random_batch(tiny_lm, ("ab", "ba"), 9)]
    module = WandModule(tiny_lm, window=8, **settings)
    module.teacher = build_teacher(COPY, tiny_lm)
    terms = module.settings.loss
    importance = torch.tensor(terms.codebook_weights or [1.0] * 3)
    losses, labels = [], []
    for batch in batches:
        weights = importance.expand(batch.labels.shape)
        student = module.backbone.head_input(batch, AttentionWindow(8))
        teacher = module.teacher.head_input(batch)
        losses.append(by_logits(student, teacher, batch.labels, weights, terms))
        labels.append((weights * (batch.labels != IGNORE)).sum())
    means = [sum(values) / sum(labels) for values in zip(*losses, strict=True)]
    expected = torch.autograd.grad(means[0], list(module.backbone.parameters()))
    kept = Gradients()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        accumulate_grad_batches=2,
        callbacks=[kept],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))
    for name, value in zip(LossSums._fields, means, strict=True):
        torch.testing.assert_close(trainer.callback_metrics[f"train/{name}"], value.detach(), atol=1e-5, rtol=1e-4)
    for (name, _), true in zip(module.backbone.named_parameters(), expected, strict=True):
        torch.testing.assert_close(kept.of[f"backbone.{name}"], true, atol=1e-5, rtol=1e-3)
