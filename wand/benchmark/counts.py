"""FLOPs and bytes of a decoding step, computed from shapes. A multiplication with its addition counts as 2 FLOPs.

*Attention* is the two products with keys and values: ``4 * layers * heads * width`` FLOPs for every key that a query
sees (without softmax). *Total* adds every matrix that a column is multiplied by: the projections of the body and the
allowed rows of the speech head. Embedding lookups, norms and activations are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wand.kv_cache.sizes import key_value_shape
from wand.model.backbone import Backbone


def attention_flops_per_key(config: PretrainedConfig) -> int:
    """FLOPs of all layers for one query and one key that it sees."""
    layers, _, width = key_value_shape(config)
    return 4 * layers * config.num_attention_heads * width


def visible_keys(prefix: int, spoken: int, window: int | None) -> int:
    """Number of keys that the next speech column sees after `spoken` columns, its own included."""
    return prefix + (spoken + 1 if window is None else min(spoken + 1, window))


def visible_keys_of_all(prefix: int, spoken: int, window: int | None) -> int:
    """Sum of `visible_keys` over the first `spoken` speech columns."""
    within = spoken if window is None else min(spoken, window)
    return spoken * prefix + within * (within + 1) // 2 + (spoken - within) * within


def multiplied_weights(backbone: Backbone) -> int:
    """Number of weights that one column is multiplied by: the matrices of the body and the allowed rows of the head."""
    return _matrices(backbone) + sum(part.numel() for part in backbone.speech_head().weights if part.ndim > 2)


def step_flops(backbone: Backbone, keys: Sequence[int], rows: int = 1) -> tuple[int, int]:
    """FLOPs of one step: (attention, total).

    Args:
        backbone: The model. Only its shapes are used, so it may be on the meta device.
        keys: Number of keys that the query of each row sees in each layer.
        rows: B.
    """
    config = backbone.decoder.config
    attention = attention_flops_per_key(config) // config.num_hidden_layers * sum(keys)
    return rows * attention, rows * (attention + 2 * multiplied_weights(backbone))


def weight_bytes(backbone: Backbone, int8: bool = False) -> int:
    """Bytes of weights that a step must read. They do not depend on the number of rows.

    Args:
        backbone: The model.
        int8: Whether the body's matrices are int8. Their scales, about a thousandth, are not counted.
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
    """The body's own embedding table ``[rows, D]``; None if its adapter embeds in another way."""
    try:
        embedding: Any = decoder.get_input_embeddings()
    except NotImplementedError:  # transformers raises this if the table was removed from the body
        return None
    return None if embedding is None else embedding.weight


def _matrices(backbone: Backbone) -> int:
    """Number of weights in the body's projections."""
    return sum(layer.weight.numel() for layer in backbone.decoder.modules() if isinstance(layer, nn.Linear | Conv1D))
