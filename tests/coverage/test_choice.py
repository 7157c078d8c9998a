"""The rule of the recommended window, and windows by layer against all others of as many columns."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from wand.coverage.choice import SIZES, by_layer, recommend, spread_columns
from wand.coverage.mass import LARGEST, AttentionMass
from wand.model.columns import ColumnLayout, FlattenedLayout

PLAIN = ColumnLayout(1, 0, 0)


def mass_of(prefix: list[float], places: list[dict[int, float]]) -> AttentionMass:
    """One head per layer, with shares at single distances."""
    distances = torch.zeros(len(prefix), 1, LARGEST, dtype=torch.float64)
    for layer, own in enumerate(places):
        for distance, share in own.items():
            distances[layer, 0, distance] = share
    return AttentionMass(torch.tensor(prefix, dtype=torch.float64)[:, None], None, distances, 1)


def falling(layers: int) -> AttentionMass:
    """Attention that falls with the distance, at a random pace in each of two heads."""
    pace = torch.rand(layers, 2, 1, dtype=torch.float64) / 5
    shares = torch.exp(-pace * torch.arange(LARGEST))
    speech = torch.rand(layers, 2, dtype=torch.float64)
    return AttentionMass(1 - speech, None, speech[..., None] * shares / shares.sum(-1, keepdim=True) * 0.9, 1)


def test_the_smallest_power_of_two_that_covers_enough_is_recommended() -> None:
    # Distance 15 is the last one inside 16 columns, and distance 16 is outside.
    mass = mass_of([0.5, 0.5], [{0: 0.25, 15: 0.25}, {0: 0.25, 16: 0.25}])
    assert mass.covered(16).mean().item() == 0.875
    chosen = recommend(mass, PLAIN, 0.875)
    assert chosen is not None
    assert (chosen.sizes, chosen.covered, chosen.lowest) == ((16, 16), 0.875, 0.75)
    chosen = recommend(mass, PLAIN, 0.876)
    assert chosen is not None
    assert (chosen.sizes, chosen.covered, chosen.lowest) == ((32, 32), 1.0, 1.0)


def test_nothing_is_recommended_if_the_largest_window_covers_too_little() -> None:
    assert recommend(mass_of([0.8], [{0: 0.05}]), PLAIN, 0.9) is None


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (ColumnLayout(8, 0, 0), 8),  # a delay of 7 columns fits
        (ColumnLayout(9, 0, 0), 16),  # one of 8 does not
        (FlattenedLayout(1, 0, 0, sizes=(4,) * 7, codebooks=tuple(range(7))), 14),  # whole frames of 7
    ],
    ids=["delay-7", "delay-8", "frames-of-7"],
)
def test_a_recommended_window_fits_the_columns_of_the_model(layout: ColumnLayout, size: int) -> None:
    chosen = recommend(mass_of([1.0, 1.0], [{}, {}]), layout, 0.9)
    assert chosen is not None
    assert chosen.sizes == (size, size)
    assert spread_columns(mass_of([1.0, 1.0], [{}, {}]), layout, 2 * size).sizes == (size, size)


def test_windows_by_layer_cover_most_of_all_windows_of_as_many_columns() -> None:
    for _ in range(5):
        mass = falling(3)
        chosen = spread_columns(mass, PLAIN, 3 * 32)
        assert sum(chosen.sizes) == 3 * 32
        layers = {size: mass.covered(size).mean(1) for size in range(8, 3 * 32, 8)}
        best = max(
            sum(layers[size][layer].item() for layer, size in enumerate(sizes)) / 3
            for sizes in product(layers, repeat=3)
            if sum(sizes) == 3 * 32
        )
        assert chosen.covered == pytest.approx(best)
        uniform = mass.covered(32).mean().item() - 1e-12  # rounding
        assert chosen.covered >= uniform
        fewest = spread_columns(mass, PLAIN, 3 * 32, enough=uniform)
        assert fewest.covered >= uniform
        assert sum(fewest.sizes) <= 3 * 32


def test_attention_that_does_not_fall_is_covered_as_well_as_possible() -> None:
    # Layer 0 looks 16 to 23 columns back and nowhere between; layer 1 gains a little with every window.
    mass = mass_of([0.0, 0.0], [{0: 0.2, 20: 0.6}, dict.fromkeys(range(60), 0.01)])
    chosen = spread_columns(mass, PLAIN, 64)
    assert chosen.sizes == (24, 40)
    assert chosen.covered == pytest.approx((0.8 + 0.4) / 2)
    # 0.8 / 2 is reached by layer 0 alone, with the smallest window of layer 1: 0.08.
    assert spread_columns(mass, PLAIN, 64, enough=0.43).sizes == (24, 8)
    uniform = recommend(mass, PLAIN, 0.5)
    assert uniform is not None
    assert uniform.sizes == (32, 32)
    assert by_layer(mass, PLAIN, uniform).sizes == (24, 40)
    assert by_layer(mass, PLAIN, uniform, 0.5).sizes == (24, 24)


def test_one_window_is_kept_where_windows_by_layer_cover_less() -> None:
    # Frames of 7: one window of 8 becomes 14, and one of 32 becomes 35, which no multiple of 14 is.
    frames = FlattenedLayout(1, 0, 0, sizes=(4,) * 7, codebooks=tuple(range(7)))
    mass = mass_of([0.0, 0.0], [{34: 1.0}, {34: 1.0}])
    uniform = recommend(mass, frames, 0.9)
    assert uniform is not None
    assert uniform.sizes == (35, 35)
    assert spread_columns(mass, frames, 70).covered == 0.5
    assert by_layer(mass, frames, uniform) == uniform == by_layer(mass, frames, uniform, 0.9)


def test_no_layer_gets_more_than_the_largest_window() -> None:
    mass = mass_of([0.0, 1.0], [dict.fromkeys(range(LARGEST), 1 / LARGEST), {}])
    assert spread_columns(mass, PLAIN, 10 * LARGEST).sizes == (LARGEST, LARGEST)
    assert SIZES[-1] == LARGEST
