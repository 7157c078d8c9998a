"""Windowed attention for a plain transformers model, for use in your own training loop."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.interface import stock_twin, use_wand_attention
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.model.padding import check_starts, starts_of_prompts, starts_of_texts

# Inputs of a model that a windowed forward pass cannot use, and why.
REFUSED_INPUTS = {
    "past_key_values": "it takes whole texts: use generate to continue a text",
    "encoder_hidden_states": "cross-attention has no window",
}
# Settings of transformers' generate that need another cache or a second model, with their values when they are off.
REFUSED_SETTINGS: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0, 0.0),
    "dola_layers": (None,),
    "prompt_lookup_num_tokens": (None,),
    "assistant_early_exit": (None,),
    "guidance_scale": (None, 1, 1.0),
    "prefill_chunk_size": (None,),
    "cache_implementation": (None,),
    "force_words_ids": (None,),
    "constraints": (None,),
}
REFUSED_OPTIONS = ("assistant_model", "custom_generate", "past_key_values", "position_ids", "encoder_hidden_states")


class WindowedModel(nn.Module):
    """A transformers decoder (with or without a head) in which each step sees the prefix and the last W columns.

    Args:
        model: Llama, Qwen2, GPT-2 or another model whose whole attention goes through transformers'
            ``AttentionInterface`` and is plain causal.
        window: W, the number of columns in view after the prefix, including the current one; None is full attention.

    Raises:
        ValueError: If windowed attention cannot replace the attention of the model.
    """

    def __init__(self, model: PreTrainedModel, window: int | None) -> None:
        super().__init__()
        self.window = AttentionWindow(window)
        self.model = model
        self._facts = use_wand_attention(model)

    def forward(
        self,
        *,
        boundary: int,
        starts: Tensor | None = None,
        window: AttentionWindow | None = None,
        attention_mask: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """Run the model over ``prefix | speech`` columns and return its output. Prefixes are left-padded to P columns.

        Args:
            boundary: P, the column at which speech starts, the same in every row.
            starts: ``[B]`` first real column of every row; None when no row is padded.
            window: Replaces the window of this model in this call. A curriculum passes a soft or wider window, a
                teacher passes ``AttentionWindow()``, which is full attention.
            attention_mask: ``[B, P + T]``, 1 at real columns: another way to give `starts`. Columns after the text of a
                row may be 0; their outputs have no meaning.
            **inputs: ``input_ids`` ``[B, P + T]`` or ``inputs_embeds`` ``[B, P + T, D]``, and other model inputs.

        Raises:
            ValueError: If the mask has other holes, the padding reaches into the speech, the boundary is outside the
                columns, positions restart within a row, or an input needs attention of another kind.
        """
        for name, reason in REFUSED_INPUTS.items():
            if inputs.get(name) is not None:
                raise ValueError(f"a windowed forward pass takes no {name}: {reason}")
        if inputs.pop("use_cache", None):
            raise ValueError("a windowed forward pass fills no cache: use generate, or leave use_cache out")
        columns = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
        if attention_mask is not None:
            starts = starts_of_texts(attention_mask, columns, boundary, starts)
        check_starts(starts, boundary, columns)
        if starts is not None:
            self._check_positions()
            if inputs.get("position_ids") is None:
                positions = torch.arange(columns.shape[1], device=columns.device)
                inputs["position_ids"] = (positions - starts.to(columns.device)[:, None]).clamp(min=0)
        _check_order(inputs.get("position_ids"), starts)
        context = AttentionContext(window or self.window, boundary, starts)
        return self.model(**inputs, use_cache=False, attention_context=context)

    def make_cache(self, prefix_length: int, batch_size: int = 1) -> PrefixWindowCache:
        """A cache of constant size for one decode, for ``generate(past_key_values=...)`` or your own decoding loop.

        Raises:
            ValueError: If the model has full attention, whose cache grows.
        """
        if self.window.size is None:
            raise ValueError("full attention has no cache of constant size: give apply_window a window")
        if self._facts.shape is None:
            raise ValueError(f"{type(self.model).__name__} needs a cache of its own kind: a window has none")
        parameter = next(self.model.parameters())
        return PrefixWindowCache(
            self._facts.shape,
            prefix_length=prefix_length,
            window=self.window.size,
            batch_size=batch_size,
            dtype=parameter.dtype,
            device=parameter.device,
        )

    def generate(self, input_ids: Tensor | None = None, *, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """Run transformers' ``generate`` with a cache of constant size (full attention keeps every column).

        Args:
            input_ids: The prefixes ``[B, P]``, left-padded. The window applies to all columns after them.
            attention_mask: ``[B, P]``, 1 at real columns. Without it, leading columns with the padding token of the
                model are padding, if this token has no other meaning.
            **options: Options of transformers' ``generate``; ``inputs_embeds`` ``[B, P, D]`` may replace `input_ids`.

        Raises:
            ValueError: If the mask is not that of left-padded prefixes, prefixes could be padded and there is no mask,
                or an option needs another cache (beam search, assisted and contrastive decoding, guidance).
        """
        if input_ids is None:
            input_ids = options.pop("inputs", None)
        embeds = options.get("inputs_embeds")
        if input_ids is None and embeds is None:
            raise ValueError("generate needs the prefixes: give input_ids or inputs_embeds")
        settings = self._settings(options)
        prefixes = input_ids if embeds is None else embeds
        assert prefixes is not None
        if prefixes.shape[1] == 0:
            raise ValueError("the prefixes have no columns: give at least one")
        starts = starts_of_prompts(attention_mask, prefixes, settings)
        self._check_positions()
        columns = torch.arange(prefixes.shape[1], device=prefixes.device)
        rows = len(prefixes) * (settings.num_return_sequences or 1)
        if self.window.size is not None:
            options["past_key_values"] = self.make_cache(prefixes.shape[1], rows)
        stock: Any = stock_twin(self.model)
        mask = (columns >= starts.to(prefixes.device)[:, None]).long()
        return stock.generate(input_ids, attention_mask=mask, **{**options, "use_cache": True})

    def _settings(self, options: dict[str, Any]) -> GenerationConfig:
        """The settings of a call of `generate`."""
        for name in REFUSED_OPTIONS:
            if options.get(name) is not None:
                raise ValueError(f"generate of a windowed model takes no {name}: it makes its own cache for one model")
        given = options.get("generation_config") or self.model.generation_config or GenerationConfig()
        values = {**given.to_dict(), **{name: value for name, value in options.items() if hasattr(given, name)}}
        for name, off in REFUSED_SETTINGS.items():
            if name in values and values[name] not in off:
                raise ValueError(
                    f"{name} {values[name]!r} is not supported by windowed attention, which keeps its own cache: leave "
                    f"it out, and use sampling or greedy decoding"
                )
        if values.get("use_cache") is False:
            warnings.warn("use_cache False has no effect: windowed decoding always keeps its cache", stacklevel=3)
        return GenerationConfig.from_dict(values)

    def _check_positions(self) -> None:
        """Padding and a cache need a model that can be given the positions of its columns."""
        if not self._facts.takes_positions:
            raise ValueError(
                f"{type(self.model).__name__} numbers its positions itself, so it has no windowed generate and takes "
                f"no padding: use forward, with rows of one length"
            )


def apply_window(model: PreTrainedModel, window: int | None) -> WindowedModel:
    """Switch a pretrained model to windowed attention, without training it. The weights are shared, not copied.

    Args:
        model: A transformers decoder.
        window: W, the number of columns in view after the prefix, including the current one; None is full attention.

    Raises:
        ValueError: If windowed attention cannot replace the attention of the model, such as that of models with a
            window, sinks or recurrent layers of their own.
    """
    return WindowedModel(model, window)


def _check_order(positions: Tensor | None, starts: Tensor | None) -> None:
    """Positions that restart mean several texts in one row, which would see each other."""
    if positions is None or positions.ndim != 2 or positions.shape[1] < 2:
        return
    after = torch.arange(1, positions.shape[1], device=positions.device)
    real = after > (0 if starts is None else starts.to(positions.device)[:, None])
    if bool(((positions.diff(dim=1) != 1) & real).any()):
        raise ValueError("position_ids do not count on within a row: several texts in one row are not supported")
