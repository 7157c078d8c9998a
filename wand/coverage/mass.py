"""Where attention heads look while a model speaks, as means over the steps of the speech.

Shapes: L layers, H query heads, D distances. The distance of a speech column is counted from the query's own column,
which has the distance 0. So a window of W columns covers the distances below W.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

# The largest window that is looked at. Attention to older columns is not told apart.
LARGEST = 256


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMass:
    """Shares of the attention of every head. Prefix, distances and what is older add up to 1.

    Args:
        prefix: Share on the prefix, ``[L, H]``.
        text: Share on the text in the prefix, ``[L, H]``; None if the adapter does not say where it is.
        distances: Share on the speech column of each distance below `LARGEST`, ``[L, H, D]``.
        steps: Number of steps that the means are over.
    """

    prefix: Tensor
    text: Tensor | None
    distances: Tensor
    steps: int

    @property
    def reference(self) -> Tensor | None:
        """Share on the rest of the prefix, ``[L, H]``: the reference, and what else the prompt holds."""
        return None if self.text is None else self.prefix - self.text

    @property
    def parts(self) -> dict[str, Tensor]:
        """The parts of the prefix by name, ``[L, H]`` each: `text` and `reference`, or none if they are not known."""
        if self.text is None or self.reference is None:
            return {}
        return {"text": self.text, "reference": self.reference}

    @property
    def generated(self) -> Tensor:
        """Share on the speech, ``[L, H]``."""
        return 1 - self.prefix

    def inside(self, window: int) -> Tensor:
        """Share on the speech inside a window of at most `LARGEST` columns, ``[L, H]``."""
        return self.distances[..., :window].sum(-1)

    def covered(self, window: int) -> Tensor:
        """Share on all that a step under a window of at most `LARGEST` columns sees, ``[L, H]``."""
        return self.prefix + self.inside(window)
