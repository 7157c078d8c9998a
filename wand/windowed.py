"""A plain transformers model under windowed attention, for training loops of one's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.interface import stock_twin, use_wand_attention
from wand.decoding.cache import PrefixWindowCache


class WindowedModel(nn.Module):
    """A transformers decoder (with or without a head) whose steps see a prefix and the last W columns after it.

    Args:
        model: Llama, Qwen2, GPT-2 or another whose attention goes through transformers' interface.
        window: W.
    """

    def __init__(self, model: PreTrainedModel, window: int) -> None:
        super().__init__()
        if window is None:
            raise ValueError("window None is full attention: use the model as it is, or give a number of columns")
        self.window = AttentionWindow(window)
        self.model = model
        use_wand_attention(model)

    def forward(
        self, *, boundary: int, starts: Tensor | None = None, window: AttentionWindow | None = None, **inputs: Any
    ) -> Any:
        """The model's own output over ``prefix | speech`` columns, prefixes left-padded to one boundary.

        Args:
            boundary: P, the column at which speech starts, the same in every row.
            starts: ``[B]`` first real column of every row, where prefixes are padded.
            window: Another than the final one: a soft or wider window of a curriculum, or ``AttentionWindow()``, full
                attention, for a teacher.
            **inputs: ``input_ids`` or ``inputs_embeds`` ``[B, P + T(, D)]``, and whatever else the model takes.
        """
        columns = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
        if starts is not None and "position_ids" not in inputs:
            positions = torch.arange(columns.shape[1], device=columns.device)
            inputs["position_ids"] = (positions - starts[:, None]).clamp(min=0)
        context = AttentionContext(window or self.window, boundary, starts)
        return self.model(**inputs, use_cache=False, attention_context=context)

    def make_cache(self, prefix_length: int, batch_size: int = 1) -> PrefixWindowCache:
        """The cache of one decode, for ``generate(past_key_values=...)`` or steps of one's own; it never grows."""
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
        """Transformers' own ``generate`` with the cache that never grows; prefixes ``[B, P]`` are left-padded.

        Args:
            input_ids: The prefixes; everything after them is seen through the window.
            **options: Of transformers' ``generate``.
        """
        stock: Any = stock_twin(self.model)
        spoken: Tensor = stock.generate(
            input_ids, past_key_values=self.make_cache(input_ids.shape[1], len(input_ids)), **options
        )
        return spoken


def apply_window(model: PreTrainedModel, window: int) -> WindowedModel:
    """Put a pretrained model under windowed attention, without training it; its weights are the same objects.

    Args:
        model: A decoder of transformers.
        window: W, columns in view after the prefix.
    """
    return WindowedModel(model, window)
