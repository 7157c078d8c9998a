"""Intervals against what statistics says they are."""

from __future__ import annotations

import numpy as np
import torch

from wand.metrics.intervals import interval, resampled_sums


def test_every_resample_draws_as_many_sentences_as_there_are():
    sums = resampled_sums(torch.ones(7, 2), resamples=50)
    assert torch.equal(sums, torch.full((50, 2), 7.0, dtype=torch.float64))


def test_counts_of_one_sentence_stay_together():
    values = torch.randint(0, 9, (12, 1)).double()
    sums = resampled_sums(torch.cat([values, 3 * values], dim=1))
    assert torch.allclose(sums[:, 1], 3 * sums[:, 0])


def test_the_interval_of_a_mean_is_the_normal_one():
    values = torch.from_numpy(np.random.default_rng(0).normal(5.0, 2.0, 400))
    low, high = interval(resampled_sums(values[:, None])[:, 0] / len(values))
    error = 1.96 * float(values.std()) / 20
    assert abs(low - (float(values.mean()) - error)) < 0.03
    assert abs(high - (float(values.mean()) + error)) < 0.03


def test_the_same_seed_gives_the_same_interval():
    values = torch.rand(9, 3)
    assert torch.equal(resampled_sums(values), resampled_sums(values))
    assert not torch.equal(resampled_sums(values), resampled_sums(values, seed=1))
