"""The variants that are timed against each other compute the same."""

from __future__ import annotations

import torch

from benchmarks import loss
from benchmarks.loss import LOSSES, make_inputs


def test_all_variants_are_one_loss() -> None:
    student, teacher, labels = make_inputs(columns=9, rows=20, width=8)
    first, *others = (variant(student, teacher, labels) for variant in LOSSES.values())
    for other in others:
        torch.testing.assert_close(other, first)


def test_whole_and_allowed_rows_are_compared() -> None:
    lines = loss.allowed_rows_table(columns=4, vocabulary=300, codes=20, width=64, repeats=1).splitlines()[2:]
    sizes = [line.split(" | ")[1] for line in lines]
    assert sizes == ["300", "300", "22", "22"]
