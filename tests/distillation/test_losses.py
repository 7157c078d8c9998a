"""The losses against their plain formulas in float64, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wand.distillation.losses import IGNORE, agreement, cross_entropy, masked_sum, skew_kl

VOCABULARY = 7
scales = st.sampled_from([0.01, 1.0, 10.0])
seeds = st.integers(0, 10_000)
skews = st.sampled_from([0.0, 0.1, 0.5, 0.99])


def logits(seed: int, scale: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, 3, VOCABULARY, generator=generator)
    return student.requires_grad_(), teacher


def plain_skew_kl(student: Tensor, teacher: Tensor, skew: float, temperature: float) -> Tensor:
    """The formula as it reads: sum of p (log p - log (s p + (1 - s) q)), where 0 log 0 is 0."""
    p = (teacher.double() / temperature).softmax(-1)
    q = (student.double() / temperature).softmax(-1)
    return (torch.xlogy(p, p) - torch.xlogy(p, skew * p + (1 - skew) * q)).sum(-1)


@given(seeds, scales, skews, st.sampled_from([0.5, 1.0, 2.0]))
def test_skew_kl_is_the_plain_formula(seed, scale, skew, temperature):
    student, teacher = logits(seed, scale)
    value = skew_kl(student, teacher, skew, temperature)
    expected = plain_skew_kl(student, teacher, skew, temperature)
    torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-4)
    own, true = (torch.autograd.grad(v.sum(), student)[0] for v in (value, expected))
    torch.testing.assert_close(own, true, atol=1e-5, rtol=1e-4)


def test_skew_kl_gradient_in_double_precision():
    student = torch.randn(2, VOCABULARY, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, VOCABULARY, dtype=torch.float64)
    (own,) = torch.autograd.grad(skew_kl(student, teacher, 0.1).sum(), student)
    (true,) = torch.autograd.grad(plain_skew_kl(student, teacher, 0.1, 1.0).sum(), student)
    torch.testing.assert_close(own, true, atol=1e-6, rtol=1e-4)


@given(seeds, st.sampled_from([0.01, 1.0, 100.0, 1e4]), skews)
def test_skew_kl_is_bounded(seed, scale, skew):
    student, teacher = logits(seed, scale)
    value = skew_kl(student, teacher, skew)
    assert (value >= -1e-5).all()
    if skew > 0:
        assert (value <= -math.log(skew) + 1e-5).all()


@given(seeds, st.sampled_from([1.0, 100.0, 1e4]), skews)
def test_skew_kl_is_zero_between_equals(seed, scale, skew):
    student, _ = logits(seed, scale)
    shifted = student.detach() + 3
    value = skew_kl(student, shifted, skew)
    torch.testing.assert_close(value, torch.zeros(3), atol=1e-5 * scale, rtol=0)


def test_skew_kl_is_not_zero_between_others():
    student, teacher = logits(seed=0, scale=1.0)
    assert (skew_kl(student, teacher) > 1e-3).all()


@pytest.mark.parametrize("skew", [0.0, 0.1])
@pytest.mark.parametrize("student_row", [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], ids=["agrees", "opposes"])
def test_skew_kl_is_finite_on_extreme_logits(student_row, skew):
    student = torch.tensor([student_row], requires_grad=True)
    value = skew_kl(student, torch.tensor([[1e4, -1e4, 0.0]]), skew)
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("skew", [0.0, 0.1, 0.5])
def test_rows_that_both_forbid_count_for_nothing(skew):
    student, teacher = torch.randn(2, 4, VOCABULARY)
    student.requires_grad_()
    forbidden = torch.zeros(VOCABULARY, dtype=torch.bool)
    forbidden[[0, 5]] = True
    hidden = float("-inf")
    value = skew_kl(student.masked_fill(forbidden, hidden), teacher.masked_fill(forbidden, hidden), skew)
    expected = skew_kl(student[:, ~forbidden], teacher[:, ~forbidden], skew)
    torch.testing.assert_close(value, expected)
    own, true = (torch.autograd.grad(v.sum(), student)[0] for v in (value, expected))
    torch.testing.assert_close(own, true)


@pytest.mark.parametrize("forbidding", ["student", "teacher"])
def test_rows_that_only_one_forbids(forbidding):
    student, teacher = torch.randn(2, 4, VOCABULARY)
    student.requires_grad_()
    inputs = {"student": student, "teacher": teacher}
    inputs[forbidding] = inputs[forbidding].index_fill(-1, torch.tensor([2]), float("-inf"))
    value, expected = skew_kl(**inputs, skew=0.1), plain_skew_kl(**inputs, skew=0.1, temperature=1.0)
    torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-4)
    own, true = (torch.autograd.grad(v.sum(), student, retain_graph=True)[0] for v in (value, expected))
    torch.testing.assert_close(own, true, atol=1e-5, rtol=1e-4)


def test_the_teacher_gets_no_gradient():
    student, teacher = logits(seed=0, scale=1.0)
    teacher.requires_grad_()
    skew_kl(student, teacher).sum().backward()
    assert teacher.grad is None


def test_half_precision_is_computed_in_single():
    student, teacher = (values.detach().bfloat16() for values in logits(seed=0, scale=1.0))
    assert skew_kl(student, teacher).dtype == torch.float32
    torch.testing.assert_close(skew_kl(student, teacher), skew_kl(student.float(), teacher.float()))


@given(seeds, st.lists(st.integers(-1, VOCABULARY - 1), min_size=3, max_size=3))
def test_cross_entropy_is_the_negative_log_probability_of_the_label(seed, tokens):
    student, _ = logits(seed, 1.0)
    labels = torch.tensor([IGNORE if token < 0 else token for token in tokens])
    value = cross_entropy(student, labels)
    expected = [
        0.0 if t < 0 else -float(student[i].detach().double().softmax(-1)[t].log()) for i, t in enumerate(tokens)
    ]
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    gradient = torch.autograd.grad(value.sum(), student)[0]
    for row, token in enumerate(tokens):
        one_hot = torch.zeros(VOCABULARY) if token < 0 else torch.eye(VOCABULARY)[token]
        own = torch.zeros(VOCABULARY) if token < 0 else student[row].detach().softmax(-1) - one_hot
        torch.testing.assert_close(gradient[row], own, atol=1e-5, rtol=1e-4)


def test_cross_entropy_keeps_the_shape_of_the_labels():
    labels = torch.randint(0, VOCABULARY, (2, 3, 4))
    student = torch.randn(2, 3, 4, VOCABULARY)
    value = cross_entropy(student, labels)
    torch.testing.assert_close(value, -student.log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1))


def test_masked_sum_and_agreement():
    labels = torch.tensor([3, IGNORE, 0])
    assert masked_sum(torch.tensor([1.0, float("nan"), 4.0]), labels) == 5
    one, other = torch.eye(3), torch.eye(3)[[0, 2, 2]]
    assert agreement(one, other).tolist() == [True, False, True]
