"""Registers wand's attention with transformers. The context is passed as a keyword."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from wand.attention.body import BodyFacts, check_body

ATTENTION_NAME = "wand"


class Attends(Protocol):
    """The type of ``attention_context``: an `AttentionContext` in a full forward, a cache's context in a step."""

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
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a transformers decoder layer; see transformers' ``AttentionInterface``.

    Raises:
        ValueError: If there is no context, attention dropout is not 0, there is a mask, or the text exceeds a window of
            the model's own. Without a context the result would be wrong: transformers drops the padding mask for an
            attention name without a mask function.
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
    if attention_mask is not None:
        raise ValueError("windowed attention takes no mask: give the padding of rows as `starts` of the context")
    if sliding_window is not None and key.shape[2] > sliding_window:
        raise ValueError(
            f"{key.shape[2]} columns exceed the model's own sliding_window {sliding_window}, which windowed attention "
            f"does not compute: use shorter texts"
        )
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise ValueError(f"{type(module).__name__} has no layer_idx, which windowed attention needs")
    return attention_context.attend(layer, query, key, value, scaling), None


def use_wand_attention(decoder: PreTrainedModel) -> BodyFacts:
    """Switch a transformers decoder to windowed attention. Its forward pass then requires ``attention_context``.

    Returns:
        What decoding needs to know about it.

    Raises:
        ValueError: If windowed attention cannot replace the attention of this decoder; see `check_body`.
    """
    facts = check_body(decoder)
    AttentionInterface.register(ATTENTION_NAME, wand_attention)
    decoder.set_attn_implementation(ATTENTION_NAME)
    return facts


def stock_twin(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the model with stock attention, for transformers' ``generate``.

    Modules and config are copied; weights and buffers are shared. The original model does not change, so it can be used
    at the same time.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    twin = copy.deepcopy(model, shared)
    twin.set_attn_implementation("sdpa")
    return twin
