"""What a decoding step multiplies and reads, counted from shapes; a multiplication with its addition is 2 FLOPs.

*Attention* is the two products with keys and values: ``4 * layers * heads * width`` FLOPs for every key that a query
sees (no softmax). *Total* adds every matrix that a column is multiplied by: the projections of the body and the allowed
rows of the speech head. Embeddings are looked up, norms and activations are not counted.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wand.decoding.cache import key_value_shape
from wand.model.backbone import Backbone


def attention_flops_per_key(config: PretrainedConfig) -> int:
    """FLOPs of all layers for one query and one key that it sees."""
    layers, _, width = key_value_shape(config)
    return 4 * layers * config.num_attention_heads * width


def visible_keys(prefix: int, spoken: int, window: int | None) -> int:
    """Keys that the speech column after `spoken` others sees, its own included."""
    return prefix + (spoken + 1 if window is None else min(spoken + 1, window))


def visible_keys_of_all(prefix: int, spoken: int, window: int | None) -> int:
    """Sum of `visible_keys` over the first `spoken` speech columns."""
    within = spoken if window is None else min(spoken, window)
    return spoken * prefix + within * (within + 1) // 2 + (spoken - within) * within


def multiplied_weights(backbone: Backbone) -> int:
    """Weights that one column is multiplied by: matrices of the body, and of the head what is allowed."""
    return _matrices(backbone) + sum(part.numel() for part in backbone.speech_head().weights if part.ndim > 2)


def step_flops(backbone: Backbone, keys: int, rows: int = 1) -> tuple[int, int]:
    """(attention, total) FLOPs of one step.

    Args:
        backbone: The model; on the meta device its shapes are enough.
        keys: That each row's query sees.
        rows: B.
    """
    attention = attention_flops_per_key(backbone.decoder.config) * keys
    return rows * attention, rows * (attention + 2 * multiplied_weights(backbone))


def weight_bytes(backbone: Backbone, int8: bool = False) -> int:
    """Bytes of weights that a step must read, whatever the number of rows.

    Args:
        backbone: The model.
        int8: Whether the body's matrices are read as int8 (their scales, a thousandth, are left out).
    """
    body = backbone.decoder
    itemsize = next(body.parameters()).element_size()
    matrices = _matrices(backbone)
    table = token_table(body)
    looked_up = 0 if table is None else table.numel()
    others = sum(parameter.numel() for parameter in body.parameters()) - matrices - looked_up
    head = sum(part.numel() for part in backbone.speech_head().weights)
    return matrices * (1 if int8 else itemsize) + (others + head) * itemsize


def token_table(decoder: PreTrainedModel) -> Tensor | None:
    """The body's own embedding ``[rows, D]``; None where its adapter embeds by other means."""
    try:
        embedding: Any = decoder.get_input_embeddings()
    except NotImplementedError:  # what transformers says of a body whose table was taken out
        return None
    return None if embedding is None else embedding.weight


def _matrices(backbone: Backbone) -> int:
    """Weights of the body's projections."""
    return sum(layer.weight.numel() for layer in backbone.decoder.modules() if isinstance(layer, nn.Linear | Conv1D))
