"""The windows that cover a wanted share of the attention.

Shapes: L layers, D distances (see `wand.coverage.mass`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def spread_columns(
    mass: AttentionMass, layout: ColumnLayout, columns: int, enough: float | None = None
) -> ChosenWindows:
    """Windows by layer that cover as much as possible with a number of columns. All layers together hold the columns.

    Every layer begins with the smallest window. Then the next few columns go, again and again, to the layer whose
    coverage they raise most. Where attention falls with the distance, no other windows of as many columns cover more.

    Args:
        mass: The attention of the full-attention model.
        layout: Its columns.
        columns: Sum of the windows, at most.
        enough: Mean coverage at which no further columns are given; None gives all.
    """
    step = layout.whole_frames(STEP)
    least = step * (layout.flush_columns // step + 1)
    sizes = [least] * len(mass.prefix)
    layers = mass.distances.mean(1).cumsum(-1)  # coverage by window, [L, D]
    while sum(sizes) + step <= columns:
        if enough is not None and ChosenWindows.of(mass, sizes).covered >= enough:
            break
        gains = {
            layer: (layers[layer, size + step - 1] - layers[layer, size - 1]).item()
            for layer, size in enumerate(sizes)
            if size + step <= LARGEST
        }
        if not gains:
            break
        sizes[max(gains, key=gains.__getitem__)] += step
    return ChosenWindows.of(mass, sizes)
