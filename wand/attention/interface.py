"""The attention as transformers knows it: one registered function, the context as its keyword."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

ATTENTION_NAME = "wand"


class Attends(Protocol):
    """What arrives as ``attention_context``: `AttentionContext` in a full forward, the cache's in a decoding step."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """Attention of one layer: ``[B, H, Q, D]`` over ``[B, G, S, D]`` to ``[B, Q, H, D]``."""
        ...


def wand_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    attention_context: Attends | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a transformers decoder layer; see transformers' ``AttentionInterface``.

    Raises:
        ValueError: Without a context (transformers drops the padding mask for attention names it has no mask
            function for, so going on would be silently wrong), or with attention dropout.
    """
    if attention_context is None:
        raise ValueError(
            "the 'wand' attention needs the keyword attention_context: call model(..., "
            "attention_context=AttentionContext(...))"
        )
    if dropout > 0:
        raise ValueError(
            f"attention dropout {dropout} is not supported by windowed attention: set it to 0 in the model config"
        )
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise ValueError(f"{type(module).__name__} has no layer_idx: windowed attention needs to know its layer")
    return attention_context.attend(layer, query, key, value, scaling), None


def use_wand_attention(decoder: PreTrainedModel) -> None:
    """Switch a transformers decoder to the windowed attention (``attention_context`` becomes a needed keyword)."""
    AttentionInterface.register(ATTENTION_NAME, wand_attention)
    decoder.set_attn_implementation(ATTENTION_NAME)


def stock_twin(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with stock attention, for transformers' own ``generate``.

    Modules and config are copies, weights and buffers are the same tensors. The model itself is not changed, so it can
    be used at the same time.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    twin = copy.deepcopy(model, shared)
    twin.set_attn_implementation("sdpa")
    return twin
