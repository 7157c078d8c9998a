"""Windowed attention for a plain transformers model, for use in your own training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.interface import stock_twin, use_wand_attention
from wand.decoding.cache import PrefixWindowCache


class WindowedModel(nn.Module):
    """A transformers decoder (with or without a head) in which each step sees the prefix and the last W columns.

    Args:
        model: Llama, Qwen2, GPT-2 or another model that uses transformers' ``AttentionInterface``.
        window: W, the number of columns in view after the prefix, including the current one.
    """

    def __init__(self, model: PreTrainedModel, window: int) -> None:
        super().__init__()
        if window is None:
            raise ValueError("window None is full attention: use the model without wand, or give a number of columns")
        self.window = AttentionWindow(window)
        self.model = model
        use_wand_attention(model)

    def forward(
        self, *, boundary: int, starts: Tensor | None = None, window: AttentionWindow | None = None, **inputs: Any
    ) -> Any:
        """Run the model over ``prefix | speech`` columns and return its output. Prefixes are left-padded to P columns.

        Args:
            boundary: P, the column at which speech starts, the same in every row.
            starts: ``[B]`` first real column of every row; None when no row is padded.
            window: Replaces the window of this model in this call. A curriculum passes a soft or wider window, a
                teacher passes ``AttentionWindow()``, which is full attention.
            **inputs: ``input_ids`` ``[B, P + T]`` or ``inputs_embeds`` ``[B, P + T, D]``, and other model inputs.
        """
        columns = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
        if starts is not None and "position_ids" not in inputs:
            positions = torch.arange(columns.shape[1], device=columns.device)
            inputs["position_ids"] = (positions - starts[:, None]).clamp(min=0)
        context = AttentionContext(window or self.window, boundary, starts)
        return self.model(**inputs, use_cache=False, attention_context=context)

    def make_cache(self, prefix_length: int, batch_size: int = 1) -> PrefixWindowCache:
        """A cache of constant size for one decode, for ``generate(past_key_values=...)`` or your own decoding loop."""
        assert self.window.size is not None
        parameter = next(self.model.parameters())
        return PrefixWindowCache(
            self.model.config,
            prefix_length=prefix_length,
            window=self.window.size,
            batch_size=batch_size,
            dtype=parameter.dtype,
            device=parameter.device,
        )

    def generate(self, input_ids: Tensor, **options: Any) -> Tensor:
        """Run transformers' ``generate`` with a cache of constant size.

        Args:
            input_ids: The prefixes ``[B, P]``, left-padded. The window applies to all columns after them.
            **options: Options of transformers' ``generate``.
        """
        stock: Any = stock_twin(self.model)
        spoken: Tensor = stock.generate(
            input_ids, past_key_values=self.make_cache(input_ids.shape[1], len(input_ids)), **options
        )
        return spoken


def apply_window(model: PreTrainedModel, window: int) -> WindowedModel:
    """Switch a pretrained model to windowed attention, without training it. The weights are shared, not copied.

    Args:
        model: A transformers decoder.
        window: W, the number of columns in view after the prefix, including the current one.
    """
    return WindowedModel(model, window)
