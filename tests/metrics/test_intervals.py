"""Intervals against what statistics says they are."""

from __future__ import annotations

import numpy as np
import torch

from wand.metrics.intervals import interval, resampled_medians, resampled_sums, upper_bound


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


def test_factors_are_drawn_by_themselves():
    """Three voices and two seeds, marked so that the sums say what was drawn."""
    values = torch.tensor([[[1.0, 1.0], [10.0, 1.0]], [[100.0, 1.0], [1e3, 1.0]], [[1e4, 1.0], [1e5, 1.0]]])
    sums = resampled_sums(values, resamples=200)
    assert (sums[:, 1] == 6).all()
    digits = (sums[:, :1].long() // torch.tensor([10**i for i in range(6)])) % 10
    voices, seeds = digits.view(-1, 3, 2).sum(2) // 2, digits.view(-1, 3, 2).sum(1) // 3
    assert torch.equal(digits.view(-1, 3, 2), voices[:, :, None] * seeds[:, None, :])
    assert {tuple(row) for row in seeds.tolist()} == {(0, 2), (1, 1), (2, 0)}
    assert (voices.sum(1) == 3).all()
    assert len({tuple(row) for row in voices.tolist()}) == 10


def test_the_spread_of_crossed_means_is_that_of_both_factors():
    """Effects of voices and seeds add up: so do the variances of their means, each as in a bootstrap of its own."""
    random = np.random.default_rng(0)
    voices, seeds = torch.from_numpy(random.normal(0, 2, 40)), torch.from_numpy(random.normal(0, 1, 30))
    means = resampled_sums((voices[:, None] + seeds)[..., None], resamples=4000)[:, 0] / 1200
    expected = (voices.var(correction=0) / 40 + seeds.var(correction=0) / 30).sqrt()
    assert abs(float(means.std() / expected) - 1) < 0.05


def test_pairing_removes_what_both_systems_share():
    """Voices differ by tens of points, systems by one: the bound of the difference does not see the voices."""
    random = np.random.default_rng(1)
    shared = torch.from_numpy(random.normal(20, 10, (8, 3)))
    noise = torch.from_numpy(random.normal(0, 0.1, (8, 3)))
    sums = resampled_sums(torch.stack([shared + 1 + noise, shared], dim=2))
    difference = (sums[:, 0] - sums[:, 1]) / 24
    assert 1 < upper_bound(difference) < 1.2
    assert upper_bound(difference) < interval(difference)[1]


def test_the_upper_bound_of_a_mean_is_the_normal_one():
    values = torch.from_numpy(np.random.default_rng(0).normal(5.0, 2.0, 400))
    bound = upper_bound(resampled_sums(values[:, None])[:, 0] / len(values))
    assert abs(bound - (float(values.mean()) + 1.645 * float(values.std()) / 20)) < 0.03


def test_medians_are_those_of_the_values_that_are_drawn():
    values = torch.randn(5, 3, 4).masked_fill(torch.rand(5, 3, 4) < 0.2, torch.nan)
    medians = resampled_medians(values, resamples=20)
    times = resampled_sums(torch.eye(15).view(5, 3, 15), resamples=20)  # how often each sentence is drawn
    for median, own in zip(medians, times.long(), strict=True):
        drawn = values.view(15, 4).repeat_interleave(own, dim=0)
        assert float(median) == float(drawn.nanmedian())


def test_no_values_have_no_median():
    assert resampled_medians(torch.full((2, 2, 3), torch.nan), resamples=5).isnan().all()
    assert resampled_medians(torch.zeros(2, 2, 0), resamples=5).isnan().all()
