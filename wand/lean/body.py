"""A faster implementation of a decoder body for speaking, with fused projections.

It uses the weights of a transformers body of the Llama, Qwen2 or GPT-2 family and computes the same numbers with fewer
operations. The transformers body is the reference.

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
from transformers.pytorch_utils import Conv1D

from wand.attention.interface import Attends
from wand.kv_cache.sizes import key_value_shape
from wand.lean.int8 import Int8Weight, quantize

# Kinds of rotary embeddings whose frequencies do not depend on the length.
STATIC_ROTATIONS = ("default", "linear", "llama3", "yarn")
# Packages whose modules may occur in the layers.
KNOWN_MODULES = ("torch.nn.modules.", "transformers.models.", "transformers.activations")
PROJECTIONS = (nn.Linear, Conv1D)

Function = Callable[[Tensor], Tensor]

# Fusing replaces the parameters of a body with views, so only one thread may do it at a time.
_fusing = threading.Lock()


def reason_against_lean(decoder: PreTrainedModel) -> str | None:
    """Why `LeanBody` does not support a body; None if it does."""
    config = decoder.config
    if type(decoder) not in (LlamaModel, Qwen2Model, GPT2Model):
        return f"{type(decoder).__name__} is not of the Llama, Qwen2 or GPT-2 family"
    if getattr(config, "add_cross_attention", False):
        return "it has cross-attention"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "it has its own sliding windows"
    rotations = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rotations not in STATIC_ROTATIONS:
        return f"its rotary embeddings are of type {rotations}"
    layers: Any = decoder.h if isinstance(decoder, GPT2Model) else decoder.layers
    for module in layers.modules():
        known = type(module).__module__.startswith(KNOWN_MODULES) and not isinstance(module, PROJECTIONS)
        if type(module) not in PROJECTIONS and not known:  # LoRA, quantised weights
            return f"its layers contain a {type(module).__name__}"
    if any(type(parameter) is not nn.Parameter for parameter in decoder.parameters()):
        return "its parameters are distributed over processes"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class LeanLayer:
    """The functions of one layer, each of ``[B, n, ...]``.

    Args:
        attention_norm: Norm before the attention.
        qkv: Projection to queries, keys and values, concatenated.
        out: Output projection of the attention.
        scaling: Factor of the attention logits.
        mlp_norm: Norm before the feed-forward part.
        up: Input projection of the feed-forward part; gate and up, concatenated, if there is a gate.
        down: Output projection of the feed-forward part.
    """

    attention_norm: Function
    qkv: Function
    out: Function
    scaling: float
    mlp_norm: Function
    up: Function
    down: Function


class LeanBody:
    """The layers of one body, with fused projections.

    Projections of the same input are fused, and the parameters of the transformers body become views of the fused
    weights. So weights are not stored twice, and in-place changes (training, ``load_state_dict``) apply to both bodies.
    Create a new `LeanBody` after moving the model or replacing its parameters. Int8 copies do not follow changes.

    Args:
        decoder: The transformers body, including its final norm.
        int8: Use int8 copies of the weights of the projections (CPU only; see `wand.lean.int8`).

    Raises:
        ValueError: If the body is not supported, or `int8` is used on a device other than a CPU.
    """

    def __init__(self, decoder: PreTrainedModel, int8: bool = False) -> None:
        if (reason := reason_against_lean(decoder)) is not None:
            raise ValueError(f"this model has no lean decoder ({reason}): use the transformers body")
        if int8 and decoder.device.type != "cpu":
            raise ValueError(f"int8 runs only on a CPU, but the model is on {decoder.device}: turn int8 off")
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
        """Outputs ``[B, n, D]`` of new columns. Their keys and values are written to the cache.

        Args:
            embeds: ``[B, n, D]``.
            positions: ``[B, n]``.
            cache: Keys and values of the earlier columns.
            context: Computes the attention.
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
        """Cosine and signed sine ``[B, 1, n, d]``. A head is rotated by ``x * cos + roll(x) * sin``."""
        angles = positions[:, None, :, None].float() * self.rotary.inv_freq.float()
        cos, sin = (part * self.rotary.attention_scaling for part in (angles.cos(), angles.sin()))
        return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def _grown(cache: Cache, layers: int) -> list[Any]:
    """The layers of a cache that creates them lazily."""
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
    """One function for linear layers (or one Conv1D of GPT-2) that read the same input."""
    parameters: list[list[nn.Parameter]] = [[module.weight for module in modules]]  # type: ignore[misc]
    if modules[0].bias is not None:
        parameters.append([module.bias for module in modules])  # type: ignore[misc]
    weight, *rest = [fuse(own) for own in parameters]
    bias = rest[0] if rest else None
    if not isinstance(modules[0], nn.Linear):
        weight = weight.T  # Conv1D stores it transposed
    if not int8:
        return partial(functional.linear, weight=weight, bias=bias)
    return partial(_multiply, weight=quantize(weight), bias=bias)


def _multiply(given: Tensor, weight: Int8Weight, bias: Tensor | None) -> Tensor:
    product = weight.multiply(given)
    return product if bias is None else product + bias


@torch.inference_mode(False)  # the model may be trained later
def fuse(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Concatenate parameters along their rows. They become views of the result, unless they already are."""
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
