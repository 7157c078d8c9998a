"""TokenMetrics against a plain loop over places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wand.distillation.losses import IGNORE
from wand.metrics import TokenMetrics
from wand.metrics.tokens import token_sums

CODEBOOKS, VOCABULARY = 2, 5
Batch = tuple[Tensor, Tensor, Tensor]


def random_batch(rows: int, columns: int) -> Batch:
    logits, teacher = 2 * torch.randn(2, rows, columns, CODEBOOKS, VOCABULARY)
    labels = torch.randint(0, VOCABULARY, (rows, columns, CODEBOOKS))
    return logits, labels.masked_fill(torch.rand(labels.shape) < 0.3, IGNORE), teacher


def by_loop(batches: list[Batch]) -> dict[str, float]:
    found: dict[str, list[float]] = {"ce": [], "accuracy": [], "agreement": [], "kl": []}
    for logits, labels, teacher in batches:
        for place in (labels != IGNORE).nonzero().tolist():
            q, p = (values[tuple(place)].double().softmax(-1) for values in (logits, teacher))
            label = int(labels[tuple(place)])
            found["ce"].append(-float(q[label].log()))
            found["accuracy"].append(float(q.argmax() == label))
            found["agreement"].append(float(q.argmax() == p.argmax()))
            found["kl"].append(float((p * (p.log() - q.log())).sum()))
    return {name: sum(values) / len(values) for name, values in found.items()}


def check(metric: TokenMetrics, expected: dict[str, float]) -> None:
    found = metric.compute()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert float(value) == pytest.approx(expected[name], abs=1e-5)


BATCHES = ((3, 4), (1, 7), (2, 1))


def test_means_over_batches_of_any_size():
    metric = TokenMetrics()
    batches = [random_batch(*shape) for shape in BATCHES]
    for logits, labels, teacher in batches:
        metric.update(logits, labels, teacher)
    check(metric, by_loop(batches))


def test_without_a_teacher():
    batch = random_batch(3, 4)
    metric = TokenMetrics(with_teacher=False)
    metric.update(*batch[:2])
    expected = by_loop([batch])
    check(metric, {"ce": expected["ce"], "accuracy": expected["accuracy"]})


def test_two_processes_are_one():
    batches = [random_batch(*shape) for shape in BATCHES]
    ranks = TokenMetrics(), TokenMetrics()
    for i, batch in enumerate(batches):
        ranks[i % 2].update(*batch)
    ranks[0].merge_state(ranks[1])
    check(ranks[0], by_loop(batches))


def test_reset_forgets():
    batches = [random_batch(*shape) for shape in BATCHES]
    metric = TokenMetrics()
    metric.update(*batches[0])
    metric.reset()
    metric.update(*batches[1])
    check(metric, by_loop(batches[1:2]))


def test_a_model_agrees_with_itself():
    logits, labels, _ = random_batch(3, 4)
    metric = TokenMetrics()
    metric.update(logits, labels, logits)
    assert metric.compute()["agreement"] == 1
    assert float(metric.compute()["kl"]) == pytest.approx(0, abs=1e-6)


def test_a_batch_without_labels_counts_for_nothing():
    batch = random_batch(3, 4)
    logits, labels, teacher = random_batch(2, 2)
    metric = TokenMetrics()
    metric.update(*batch)
    metric.update(logits, torch.full_like(labels, IGNORE), teacher)
    check(metric, by_loop([batch]))


def test_many_small_updates_lose_no_precision():
    logits, labels, teacher = random_batch(1, 1)
    labels = labels.clamp(min=0)
    metric = TokenMetrics()
    for name in ("count", "ce"):
        setattr(metric, name, getattr(metric, name) + 1e9)
    before = float(metric.ce)
    metric.update(logits, labels, teacher)
    assert float(metric.ce) - before == pytest.approx(float(token_sums(logits, labels)["ce"]), abs=1e-5)


def test_a_missing_teacher_is_refused():
    with pytest.raises(ValueError, match="teacher's logits are missing"):
        TokenMetrics().update(*random_batch(1, 2)[:2])
