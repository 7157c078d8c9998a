"""Checks that windowed attention replaces all attention of a transformers body, and nothing else.

The check runs the body once on a few columns, under a stand-in for the attention that records its calls. In the
stand-in, a column sees only itself, so no other part of the body may carry anything from one column to another. Masks
are recorded for far positions, so that a window or a chunk of the body's own shows at any length.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PretrainedConfig, PreTrainedModel

PROBE_NAME = "wand_probe"
# For models on the meta device, whose masks have no values: it asks for none.
META_PROBE_NAME = "wand_meta_probe"
# Columns of the probe.
COLUMNS = 8
# The last column of the probe has this position if the config names no longest text.
FAR = 2**31
# Keywords of an attention call that do not change its result.
NEUTRAL = frozenset(
    {
        *("cache_position", "is_causal", "layer_idx", "logits_to_keep", "output_attentions", "output_hidden_states"),
        *("output_router_logits", "past_key_values", "position_embeddings", "position_ids", "return_dict"),
        *("sliding_window", "training", "use_cache"),
    }
)
# Settings of configs that hide keys from a column.
WINDOW_SETTINGS = ("sliding_window", "attention_chunk_size", "attention_window_size", "window_size")


class KeyValueShape(NamedTuple):
    """Shape of the keys and values that a cache keeps."""

    layers: int
    """Number of layers."""
    groups: int
    """G, the number of key/value heads."""
    key_width: int
    """Width of a key."""
    value_width: int
    """Width of a value."""


class BodyFacts(NamedTuple):
    """What was found about a body under a probe."""

    shape: KeyValueShape | None
    """Shape of its cache; None if it needs a cache of its own kind."""
    takes_positions: bool
    """Whether it can be given the positions of its columns, and counts from 0 if it is not."""


class UnsupportedBody(ValueError):
    """Windowed attention cannot replace the attention of a body."""


def check_body(body: PreTrainedModel) -> BodyFacts:
    """Check that windowed attention can replace the attention of a body.

    A body passes if each layer calls its attention once, through transformers' ``AttentionInterface``, as plain causal
    attention of all columns: without a window or chunks that its longest text exceeds, soft cap, sinks, position bias
    or a mask of its own. Nothing else may carry information between columns, such as convolutions or recurrent layers.

    Args:
        body: A transformers decoder, with or without a head. It is run on a few columns and not changed.

    Returns:
        What decoding needs to know about the body.

    Raises:
        ValueError: If the body does not pass. The message names the model type and the reason.
    """
    probe = _Probe()
    try:
        output = _run(body, probe)
    except Exception as error:  # a body that cannot be run raises anything
        reason: str | None = " ".join(str(error).split())
        if not isinstance(error, UnsupportedBody):
            reason = f"it does not run with an attention of another kind ({type(error).__name__}: {reason})"
    else:
        reason = probe.reason(body) or _mixing(output)
    if reason is not None:
        kind = getattr(body.config, "model_type", "") or type(body).__name__
        raise UnsupportedBody(f"windowed attention does not support this {kind} model: {reason}")
    return BodyFacts(_cache_shape(body), _takes_positions(body, output))


def _run(body: PreTrainedModel, probe: _Probe, **inputs: Any) -> Tensor:
    """Run a body under a probe."""
    if not body._can_set_attn_implementation():
        raise UnsupportedBody(NOT_REACHED)
    name = META_PROBE_NAME if body.device.type == "meta" else PROBE_NAME
    AttentionInterface.register(name, _record)
    AttentionMaskInterface.register(PROBE_NAME, _far_mask)
    with torch.no_grad(), _evaluating(body), _attention(body, name):
        output: Tensor = body(**{"use_cache": False, **_inputs(body), **inputs}, attention_context=probe)[0]
    return output


def _cache_shape(body: PreTrainedModel) -> KeyValueShape | None:
    """The shape of what a body keeps of each column, which need not be that of its keys and values."""
    cache = DynamicCache()
    try:
        _run(body, _Probe(), past_key_values=cache, use_cache=True)
    except Exception:  # it needs a cache of its own kind
        return None
    shapes = set()
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if not (isinstance(keys, Tensor) and isinstance(values, Tensor) and keys.shape[2] == COLUMNS):
            return None
        shapes.add((keys.shape[1], keys.shape[3], values.shape[3]))
    return KeyValueShape(len(cache.layers), *shapes.pop()) if len(shapes) == 1 else None


def _takes_positions(body: PreTrainedModel, output: Tensor) -> bool:
    if "position_ids" not in inspect.signature(body.forward).parameters:
        return False
    given = _run(body, _Probe(), position_ids=torch.arange(COLUMNS, device=output.device).expand(2, -1))
    return output.is_meta or torch.allclose(output.float(), given.float(), rtol=1e-3, atol=_noise(output))


class _Probe:
    """Records the calls of the attention during a forward pass."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.reasons: list[str] = []

    def see(self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]) -> None:
        """Record one call."""
        layer = getattr(module, "layer_idx", None)
        if layer is None:
            raise UnsupportedBody(f"its {type(module).__name__} has no layer_idx")
        self.calls[layer] += 1
        strange = sorted(name for name, value in options.items() if value is not None and name not in NEUTRAL)
        if strange:
            self.reasons.append(f"its attention depends on more than queries, keys and values ({', '.join(strange)})")
        if query.shape[2] != COLUMNS or key.shape[2] != COLUMNS:
            self.reasons.append(f"its attention is not over the columns of its input (layer {layer})")
        elif mask is None:
            causal = options.get("is_causal")
            if not (getattr(module, "is_causal", True) if causal is None else causal):
                self.reasons.append(NOT_CAUSAL)
        elif not mask.is_meta:
            self._see_mask(mask, layer)

    def _see_mask(self, mask: Tensor, layer: int) -> None:
        causal = torch.ones(COLUMNS, COLUMNS, dtype=torch.bool, device=mask.device).tril()
        seen = mask if mask.dtype == torch.bool else mask == 0
        if mask.ndim != 4 or seen.shape[-2:] != causal.shape:
            self.reasons.append(f"layer {layer} has a mask of its own")
        elif bool((seen & ~causal).any()):
            self.reasons.append(NOT_CAUSAL)
        elif bool((causal & ~seen).any()):
            self.reasons.append(f"layer {layer} has a window or chunks of its own")

    def reason(self, body: PreTrainedModel) -> str | None:
        """What the calls say against the body."""
        config = body.config.get_text_config(decoder=True)
        indices = [layer for module in body.modules() if isinstance(layer := getattr(module, "layer_idx", None), int)]
        layers = range(max(indices, default=-1) + 1)
        if not self.calls:
            return NOT_REACHED
        if missing := [layer for layer in layers if layer not in self.calls]:
            kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
            named = sorted({kinds[layer] for layer in missing}) if kinds and len(kinds) == len(layers) else []
            return f"layers {_listed(missing)} have no attention that a window could limit{_bracketed(named)}"
        if len(set(self.calls.values())) > 1 or set(self.calls) - set(layers):
            return f"its layers call their attention {sorted(self.calls.items())} times (layer, times)"
        if not self.reasons:
            return None
        settings = [f"{name} {value}" for name in WINDOW_SETTINGS if (value := getattr(config, name, None))]
        return self.reasons[0] + (_bracketed(settings) if "window" in self.reasons[0] else "")


NOT_REACHED = "it computes its attention itself, not through transformers' AttentionInterface"
NOT_CAUSAL = "its columns see later columns (a decoder of this kind may need is_decoder true in its config)"


def _record(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    attention_context: _Probe | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The stand-in for the attention: each column sees itself."""
    if attention_context is None:
        raise UnsupportedBody("it does not pass keywords on to its attention")
    attention_context.see(module, query, key, attention_mask, options)
    return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1).transpose(1, 2).contiguous(), None


def _far_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., Tensor],
    config: PretrainedConfig,
    device: torch.device,
    **options: Any,
) -> Tensor:
    """The mask that a body asks for: bool ``[B, 1, Q, S]``. The last column has the last position of a text."""
    longest = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or FAR
    column = torch.arange(max(q_length, kv_length), device=device)
    column = torch.where(column == COLUMNS - 1, max(longest, COLUMNS) - 1, column)
    row = torch.arange(batch_size, device=device)[:, None, None, None]
    head = torch.zeros_like(row[:1])
    seen = mask_function(row, head, column[:q_length, None], column[:kv_length])
    return torch.as_tensor(seen, device=device).expand(batch_size, 1, q_length, kv_length)


def _inputs(body: PreTrainedModel) -> dict[str, Tensor]:
    """Two rows that differ in the first column only."""
    try:
        table: Any = body.get_input_embeddings()
    except NotImplementedError:  # a body without a table
        table = None
    config = body.config.get_text_config(decoder=True)
    special = {getattr(config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    rows = getattr(table, "num_embeddings", 0)
    plain = [token for token in range(min(rows, 16)) if token not in special]
    if len(plain) < 2:
        embeds = torch.linspace(-1, 1, config.hidden_size, device=body.device, dtype=body.dtype)
        embeds = embeds.expand(2, COLUMNS, -1).clone()
        embeds[1, 0] = embeds[1, 0].flip(0) + 1
        return {"inputs_embeds": embeds}
    ids = torch.full((2, COLUMNS), plain[0], device=body.device)
    ids[1, 0] = plain[1]
    return {"input_ids": ids}


def _mixing(output: Tensor) -> str | None:
    """What the outputs ``[2, S, ...]`` say about paths between columns besides the attention."""
    if output.is_meta:
        return None
    one, two = output[:, 1:].float()
    if torch.allclose(one, two, rtol=1e-3, atol=_noise(one)):
        return None
    return "its columns depend on earlier columns without attention (convolutions, recurrent layers or n-grams)"


def _noise(output: Tensor) -> float:
    """What may differ between equal computations."""
    return 1e-4 * float(output.abs().max())


@contextmanager
def _attention(body: PreTrainedModel, name: str) -> Iterator[None]:
    """Run a body under an attention of another name."""
    configs = [module.config for module in body.modules() if isinstance(module, PreTrainedModel)]
    before = [(config, config._attn_implementation_internal) for config in configs]
    try:
        body.set_attn_implementation(name)
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation


@contextmanager
def _evaluating(body: nn.Module) -> Iterator[None]:
    """Run a body in eval mode, without its dropout."""
    training = [module for module in body.modules() if module.training]
    try:
        body.eval()
        yield
    finally:
        for module in training:
            module.training = True


def _listed(layers: list[int]) -> str:
    return ", ".join(map(str, layers[:4])) + (" ..." if len(layers) > 4 else "")


def _bracketed(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def dropout_settings(config: PretrainedConfig) -> dict[str, float]:
    """The dropout of a decoder, by its names in the config. It would make student and teacher differ at random."""
    classifiers = ("summary_", "classifier_")  # which no decoder has
    return {
        name: value
        for name, value in config.to_dict().items()
        if "drop" in name and not name.startswith(classifiers) and isinstance(value, float | int)
    }
