"""A decoder body as speaking needs it: fused projections, and nothing between the layers but arithmetic.

Reads the weights of a transformers body of the Llama, Qwen2 or GPT-2 family and computes the same numbers with fewer
operations; the transformers body stays the reference.

Shapes: B rows, n new columns, D width, H query heads, G key/value heads, d width of a head.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Model, LlamaModel, PreTrainedModel, Qwen2Model
from transformers.cache_utils import Cache

from wand.attention.interface import Attends
from wand.decoding.cache import key_value_shape
from wand.decoding.int8 import Int8Weight, quantize

# Rotations whose frequencies do not depend on the length.
STATIC_ROTATIONS = ("default", "linear", "llama3", "yarn")
# Where the modules of its layers are defined.
KNOWN_MODULES = ("torch.nn.modules.", "transformers.")

Function = Callable[[Tensor], Tensor]

# Fusing replaces a body's parameters by views: one thread at a time.
_fusing = threading.Lock()


def reason_against_lean(decoder: PreTrainedModel) -> str | None:
    """Why a body cannot be read by `LeanBody`; None where it can."""
    config = decoder.config
    if type(decoder) not in (LlamaModel, Qwen2Model, GPT2Model):
        return f"{type(decoder).__name__} is not of the Llama, Qwen2 or GPT-2 family"
    if getattr(config, "add_cross_attention", False):
        return "it has cross-attention"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "it has windows of its own"
    rotations = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rotations not in STATIC_ROTATIONS:
        return f"its rotations are {rotations}"
    layers: Any = decoder.h if isinstance(decoder, GPT2Model) else decoder.layers
    for module in layers.modules():
        if not type(module).__module__.startswith(KNOWN_MODULES):  # LoRA, other quantised weights
            return f"its layers hold a {type(module).__name__}"
    if any(type(parameter) is not nn.Parameter for parameter in decoder.parameters()):
        return "its parameters are spread over processes"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class LeanLayer:
    """What one layer computes, as functions of ``[B, n, ...]``.

    Args:
        attention_norm: Before the attention.
        qkv: Queries, keys and values side by side.
        out: Of the attention.
        scaling: Of attention logits.
        mlp_norm: Before the feed-forward part.
        up: Into it, gate and up side by side where there is a gate.
        down: Out of it.
    """

    attention_norm: Function
    qkv: Function
    out: Function
    scaling: float
    mlp_norm: Function
    up: Function
    down: Function


class LeanBody:
    """The layers of one body, called with new columns.

    Projections that read the same input are fused, and the body's own parameters become views of the fused weights:
    nothing is kept twice, and what is changed in place (training, ``load_state_dict``) is changed in both. Make another
    one after the model was moved or its parameters were replaced; int8 copies are those of the beginning.

    Args:
        decoder: The transformers body, its final norm included.
        int8: Multiply by int8 copies of the projections' weights (on a CPU; see `wand.decoding.int8`).

    Raises:
        ValueError: If the body is not of a known family, or int8 is asked for on another device than a CPU.
    """

    def __init__(self, decoder: PreTrainedModel, int8: bool = False) -> None:
        if (reason := reason_against_lean(decoder)) is not None:
            raise ValueError(f"this model has no lean decoder ({reason}): use the transformers body")
        if int8 and decoder.device.type != "cpu":
            raise ValueError(f"int8 runs on a CPU, the model is on {decoder.device}: leave int8 away")
        _, self.groups, self.width = key_value_shape(decoder.config)
        self.heads = decoder.config.num_attention_heads
        with _fusing:
            self._read(decoder, int8)

    def _read(self, decoder: PreTrainedModel, int8: bool) -> None:
        body: Any = decoder
        self.positions: Function | None = None
        self.rotary: Any = None
        self.activate: Function
        if isinstance(decoder, GPT2Model):
            self.positions = body.wpe
            self.activate = body.h[0].mlp.act
            self.layers = [_gpt2_layer(layer, int8) for layer in body.h]
            self.norm: Function = _norm(body.ln_f)
        else:
            self.rotary = body.rotary_emb
            self.activate = partial(_gated, activation=body.layers[0].mlp.act_fn)
            self.layers = [_llama_layer(layer, int8) for layer in body.layers]
            self.norm = _norm(body.norm)

    @torch.inference_mode()
    def __call__(self, embeds: Tensor, positions: Tensor, cache: Cache, context: Attends) -> Tensor:
        """Outputs ``[B, n, D]`` of new columns, whose keys and values the cache takes in.

        Args:
            embeds: ``[B, n, D]``.
            positions: ``[B, n]``.
            cache: Of the columns before.
            context: What the new columns see.
        """
        hidden = embeds if self.positions is None else embeds + self.positions(positions)
        rotation = None if self.rotary is None else self._rotation(positions, embeds.dtype)
        turned = self.heads + self.groups
        kept_layers = cache.layers or _grown(cache, len(self.layers))
        for index, (layer, kept) in enumerate(zip(self.layers, kept_layers, strict=True)):
            qkv = layer.qkv(layer.attention_norm(hidden)).unflatten(-1, (-1, self.width)).transpose(1, 2)
            if rotation is not None:
                cos, sin = rotation
                own = qkv[:, :turned]
                query, key = torch.addcmul(own * cos, own.roll(self.width // 2, -1), sin).split(
                    [self.heads, self.groups], dim=1
                )
            else:
                query, key = qkv[:, : self.heads], qkv[:, self.heads : turned]
            keys, values = kept.update(key, qkv[:, turned:])
            attended = context.attend(index, query, keys, values, layer.scaling)
            hidden = hidden + layer.out(attended.flatten(2))
            hidden = hidden + layer.down(self.activate(layer.up(layer.mlp_norm(hidden))))
        return self.norm(hidden)

    def _rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine ``[B, 1, n, d]``: a head turns by ``x * cos + roll(x) * sin``."""
        angles = positions[:, None, :, None].float() * self.rotary.inv_freq.float()
        cos, sin = (part * self.rotary.attention_scaling for part in (angles.cos(), angles.sin()))
        return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def _grown(cache: Cache, layers: int) -> list[Any]:
    """Layers of a cache that makes them when they are first needed."""
    assert cache.layer_class_to_replicate is not None
    while len(cache.layers) < layers:
        cache.layers.append(cache.layer_class_to_replicate())
    return list(cache.layers)


def _llama_layer(layer: Any, int8: bool) -> LeanLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return LeanLayer(
        attention_norm=_norm(layer.input_layernorm),
        qkv=_projection([attention.q_proj, attention.k_proj, attention.v_proj], int8),
        out=_projection([attention.o_proj], int8),
        scaling=attention.scaling,
        mlp_norm=_norm(layer.post_attention_layernorm),
        up=_projection([mlp.gate_proj, mlp.up_proj], int8),
        down=_projection([mlp.down_proj], int8),
    )


def _gpt2_layer(layer: Any, int8: bool) -> LeanLayer:
    return LeanLayer(
        attention_norm=_norm(layer.ln_1),
        qkv=_projection([layer.attn.c_attn], int8),
        out=_projection([layer.attn.c_proj], int8),
        scaling=layer.attn.scaling,
        mlp_norm=_norm(layer.ln_2),
        up=_projection([layer.mlp.c_fc], int8),
        down=_projection([layer.mlp.c_proj], int8),
    )


def _gated(given: Tensor, activation: Function) -> Tensor:
    gate, up = given.chunk(2, dim=-1)
    return activation(gate) * up


def _norm(module: Any) -> Function:
    shape = module.weight.shape
    if isinstance(module, nn.LayerNorm):
        return partial(
            functional.layer_norm, normalized_shape=shape, weight=module.weight, bias=module.bias, eps=module.eps
        )
    return partial(functional.rms_norm, normalized_shape=shape, weight=module.weight, eps=module.variance_epsilon)


def _projection(modules: Sequence[nn.Module], int8: bool) -> Function:
    """Linear layers (or one Conv1D of GPT-2) of the same input as one function."""
    parameters: list[list[nn.Parameter]] = [[module.weight for module in modules]]  # type: ignore[misc]
    if modules[0].bias is not None:
        parameters.append([module.bias for module in modules])  # type: ignore[misc]
    weight, *rest = [fuse(own) for own in parameters]
    bias = rest[0] if rest else None
    if not isinstance(modules[0], nn.Linear):
        weight = weight.T  # Conv1D keeps it transposed
    if not int8:
        return partial(functional.linear, weight=weight, bias=bias)
    return partial(_multiply, weight=quantize(weight), bias=bias)


def _multiply(given: Tensor, weight: Int8Weight, bias: Tensor | None) -> Tensor:
    product = weight.multiply(given)
    return product if bias is None else product + bias


@torch.inference_mode(False)  # what speaks now may be trained later
def fuse(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Parameters one below the other as one tensor; they become views of it, unless they already are."""
    first = parameters[0].data
    if len(parameters) == 1:
        return first
    follow = all(
        one.data_ptr() + one.nbytes == other.data_ptr()
        and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        for one, other in pairwise(parameters)
    )
    rows = [len(parameter) for parameter in parameters]
    if follow:
        return first.as_strided((sum(rows), *first.shape[1:]), first.stride())
    fused = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, fused.split(rows), strict=True):
        parameter.data = part
    return fused
