"""Time warping against a loop over all pairs, and against librosa."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.metrics.recorded.warping import warping_path


def least_sum(costs: np.ndarray) -> float:
    rows, columns = costs.shape
    sums = np.full((rows + 1, columns + 1), np.inf)
    sums[0, 0] = 0
    for i in range(rows):
        for j in range(columns):
            sums[i + 1, j + 1] = costs[i, j] + min(sums[i, j], sums[i, j + 1], sums[i + 1, j])
    return float(sums[-1, -1])


def total(costs: torch.Tensor) -> float:
    path = warping_path(costs)
    return float(costs[path[:, 0], path[:, 1]].double().sum())


def costs_of(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))


@given(SIZES)
def test_no_path_is_cheaper(size):
    costs = costs_of(*size)
    assert total(costs) == pytest.approx(least_sum(costs.numpy()))


@given(SIZES)
def test_a_path_leads_from_the_first_pair_to_the_last(size):
    rows, columns, _ = size
    path = [tuple(pair) for pair in warping_path(costs_of(*size)).tolist()]
    assert path[0] == (0, 0)
    assert path[-1] == (rows - 1, columns - 1)
    assert max(rows, columns) <= len(path) < rows + columns
    assert all((b[0] - a[0], b[1] - a[1]) in ((1, 1), (1, 0), (0, 1)) for a, b in pairwise(path))


@given(SIZES)
def test_the_order_of_both_sounds_does_not_matter(size):
    costs = costs_of(*size)
    assert warping_path(costs.T).flip(1).tolist() == warping_path(costs).tolist()


def test_equal_costs_give_the_shortest_path():
    assert warping_path(torch.zeros(4, 4)).tolist() == [[i, i] for i in range(4)]
    assert len(warping_path(torch.zeros(3, 7))) == 7


@pytest.mark.integration
def test_librosa_finds_the_same_path():
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    costs = costs_of(60, 45, seed=1)
    assert warping_path(costs).tolist() == librosa.sequence.dtw(C=costs.numpy())[1][::-1].tolist()
