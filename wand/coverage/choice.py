"""The windows that cover a wanted share of the attention.

Shapes: L layers, D distances (see `wand.coverage.mass`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from wand.coverage.mass import LARGEST, AttentionMass
from wand.model.columns import ColumnLayout

# Windows of the table, among which one is recommended.
SIZES = (8, 16, 32, 64, 128, 256)
# Coverage that a recommended window reaches. The windows of the paper cover from 85 to 91 % of their models' attention.
WANTED = 0.9
# Windows by layer grow by so many columns, rounded up to whole frames.
STEP = 8


@dataclass(frozen=True, slots=True)
class ChosenWindows:
    """A window for each layer, and what it covers.

    Args:
        sizes: W of each layer, in speech columns.
        covered: Mean coverage over layers, heads and steps.
        lowest: Mean coverage of the layer that has the least.
    """

    sizes: tuple[int, ...]
    covered: float
    lowest: float

    @classmethod
    def of(cls, mass: AttentionMass, sizes: Sequence[int]) -> ChosenWindows:
        """Windows and their coverage."""
        layers = [mass.covered(size)[layer].mean().item() for layer, size in enumerate(sizes)]
        return cls(tuple(sizes), sum(layers) / len(layers), min(layers))


def recommend(mass: AttentionMass, layout: ColumnLayout, wanted: float = WANTED) -> ChosenWindows | None:
    """The smallest window of `SIZES` that covers a wanted share, the same in every layer.

    Args:
        mass: The attention of the full-attention model.
        layout: Its columns. A window is rounded up to whole frames and must exceed the delay of the codebooks.
        wanted: Least mean coverage over layers, heads and steps.

    Returns:
        The window; None if the largest one covers less.
    """
    for size in SIZES:
        whole = layout.whole_frames(size)
        if layout.flush_columns < whole <= LARGEST:
            chosen = ChosenWindows.of(mass, [whole] * len(mass.prefix))
            if chosen.covered >= wanted:
                return chosen
    return None


def by_layer(
    mass: AttentionMass, layout: ColumnLayout, uniform: ChosenWindows, enough: float | None = None
) -> ChosenWindows:
    """Windows by layer that cover at least as much as one window, with at most as many columns.

    Args:
        mass: The attention of the full-attention model.
        layout: Its columns.
        uniform: The one window.
        enough: Mean coverage that is enough; then the windows have as few columns as possible. None for the largest
            coverage.

    Returns:
        The windows; `uniform` if there are no better ones.
    """
    chosen = spread_columns(mass, layout, sum(uniform.sizes), enough)
    return chosen if chosen.covered >= (uniform.covered if enough is None else enough) else uniform


def spread_columns(
    mass: AttentionMass, layout: ColumnLayout, columns: int, enough: float | None = None
) -> ChosenWindows:
    """Windows by layer that cover as much as possible with a number of columns. All layers together hold the columns.

    Windows are multiples of a few columns. No other such windows of as many columns cover more.

    Args:
        mass: The attention of the full-attention model.
        layout: Its columns.
        columns: Sum of the windows, at most.
        enough: Mean coverage at which no further columns are given; None gives all.
    """
    step = layout.whole_frames(STEP)
    sizes = range(step * (layout.flush_columns // step + 1), LARGEST + 1, step)
    layers = mass.prefix.mean(1, keepdim=True) + mass.distances.mean(1).cumsum(-1)  # coverage by window, [L, D]
    values = layers[:, [size - 1 for size in sizes]]
    most = min(max(0, (columns - len(values) * sizes[0]) // step), len(values) * (len(sizes) - 1))
    # The largest sum of the layers so far, by the number of steps that they have beyond the smallest windows.
    best = torch.full((most + 1,), -math.inf, dtype=values.dtype)
    best[0] = 0
    given = []
    for own in values:
        sums = torch.full((most + 1, len(sizes)), -math.inf, dtype=values.dtype)
        for steps in range(min(most + 1, len(sizes))):
            sums[steps:, steps] = best[: most + 1 - steps] + own[steps]
        best, chosen = sums.max(1)
        given.append(chosen)
    reached = [] if enough is None else (best / len(values) >= enough).nonzero().flatten().tolist()
    left, taken = reached[0] if reached else most, []
    for chosen in reversed(given):
        taken.append(int(chosen[left]))
        left -= taken[-1]
    return ChosenWindows.of(mass, [sizes[steps] for steps in reversed(taken)])
