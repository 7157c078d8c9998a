"""Random numbers against the generator written with Python's integers, and against what uniform means."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.decoding.uniform import uniform

WORD = 2**64


def mixed(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) % WORD
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WORD
    return value ^ (value >> 31)


def expected(seed: int, count: int, draw: int, draws: int) -> float:
    place = (mixed(seed % WORD) + (count * draws + draw) * 0x9E3779B97F4A7C15) % WORD
    return (mixed(place) >> 11) * 2.0**-53


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**40), st.integers(1, 5))
def test_the_numbers_are_those_of_whole_integers(seed, count, draws):
    numbers = uniform(torch.tensor([seed]), torch.tensor([count]), draws)[0].tolist()
    assert numbers == [expected(seed, count, draw, draws) for draw in range(draws)]


def test_splitmix64_is_the_published_one():
    """Its first outputs for the state 0, as its authors' code prints them."""
    assert [mixed(0), mixed(0x9E3779B97F4A7C15)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_they_are_uniform_over_seeds_and_over_counts():
    n = 20_000
    zeros, counting = torch.zeros(n, dtype=torch.long), torch.arange(n)
    for numbers in (uniform(counting, zeros, 1)[:, 0], uniform(zeros, counting, 1)[:, 0]):
        assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
        counts = torch.bincount((numbers * 20).long(), minlength=20).double()
        assert float(((counts - n / 20) ** 2 / (n / 20)).sum()) < 45  # chi-squared, 19 degrees: p = 0.0007
        assert abs(float(torch.corrcoef(torch.stack([numbers[1:], numbers[:-1]]))[0, 1])) < 0.03
