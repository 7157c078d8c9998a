"""Attention heads that look at the text that is spoken."""

from __future__ import annotations

from typing import NamedTuple


class AlignmentHead(NamedTuple):
    """An attention head whose query at a column looks at the text token that the next column speaks.

    Args:
        layer: Index of the layer.
        head: Index of the query head in the layer.
    """

    layer: int
    head: int
