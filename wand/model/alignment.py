"""Attention heads that look at the text that is spoken."""

from __future__ import annotations

from typing import Any, NamedTuple

from transformers import PretrainedConfig

from wand.files.typed import require


class AlignmentHead(NamedTuple):
    """An attention head whose query at a column looks at the text token that the next column speaks.

    Args:
        layer: Index of the layer.
        head: Index of the query head in the layer.
    """

    layer: int
    head: int


def read_heads(values: Any, decoder: PretrainedConfig, where: str) -> tuple[AlignmentHead, ...]:
    """The heads in plain values, such as ``[[4, 0]]``.

    Args:
        values: Layer and head of each.
        decoder: Config of the decoder that has the heads.
        where: File and key, for errors.

    Raises:
        ValueError: If these are no pairs of numbers, or the decoder has no such head.
    """
    layers, heads = decoder.num_hidden_layers, decoder.num_attention_heads
    found = []
    for pair in require(values, list[list[int]], where):
        if len(pair) != 2 or not (0 <= pair[0] < layers and 0 <= pair[1] < heads):
            raise ValueError(
                f"{where}: {pair} is not the layer and the head of a model with {layers} layers of {heads} heads: "
                f"count both from 0"
            )
        found.append(AlignmentHead(*pair))
    return tuple(found)
