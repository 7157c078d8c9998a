"""The ways to compute a decoding step, by name. Each continues from a given cache."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from wand.attention import AttentionWindow, Windows
from wand.attention.interface import stock_twin
from wand.benchmark.cost import filled_cache
from wand.benchmark.counts import token_table, visible_keys
from wand.decoding.decoder import Body, Decoder
from wand.decoding.graph import capture
from wand.decoding.sampler import Sampler
from wand.kv_cache.full import FullCache
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.kv_cache.sizes import kv_bytes
from wand.model.backbone import Backbone
from wand.model.heads import LinearHead

TRANSFORMERS, LEAN, INT8, GENERATE = "transformers", "lean", "lean int8", "generate()"
# Columns that one call of generate() speaks. Several, because each call has a fixed cost before the first column.
GENERATED = 8

Halves = tuple[Callable[[], object], Callable[[], object]]
"""Two calls: sample the tokens of a column, and feed them to the model (`MeasuredSystem.columns_per_step` columns)."""


class Steps(Protocol):
    """One way to compute steps."""

    def begin(self, cache: Any, prefix_length: int, rows: int) -> Halves:
        """The two halves of a step that continues from a cache.

        Args:
            cache: A cache of B rows with the prefix and the speech after it.
            prefix_length: P.
            rows: B.
        """
        ...


@dataclass(frozen=True)
class MeasuredSystem:
    """An attention and a way to compute it.

    Args:
        window: The windows of the layers.
        path: ``transformers`` (the unchanged body), ``lean`` (`wand.lean.body`; on a GPU the window's step is one
            CUDA graph), ``lean int8``, or transformers' ``generate()`` with its own growing cache.
    """

    window: Windows
    path: str

    @property
    def name(self) -> str:
        """Name for tables."""
        return f"{window_name(self.window)}, {self.path}"

    @property
    def columns_per_step(self) -> int:
        """Columns that one call speaks."""
        return GENERATED if self.path == GENERATE else 1

    def cache_bytes(self, backbone: Backbone, prefix: int, columns: int, rows: int = 1) -> int:
        """Bytes of keys and values after a number of speech columns."""
        itemsize = backbone.dtype.itemsize
        kept = [prefix + (columns if size is None else size) for size in self._sizes(backbone)]
        return kv_bytes(backbone.decoder.config, kept, itemsize, rows)

    def keys(self, backbone: Backbone, prefix: int, columns: int) -> list[int]:
        """Number of keys that the step after a number of speech columns sees in each layer."""
        return [visible_keys(prefix, columns, size) for size in self._sizes(backbone)]

    def _sizes(self, backbone: Backbone) -> list[int | None]:
        """W of each layer; None is full attention."""
        return [self.window.of(layer).size for layer in range(backbone.decoder.config.num_hidden_layers)]


def window_name(window: Windows) -> str:
    """Windows in words: ``full``, ``window 32``, or ``windows 8 to 64`` if they differ by layer."""
    if window.is_full:
        return "full"
    if window.smallest == window.largest:
        return f"window {window.largest}"
    return f"windows {window.smallest} to {window.largest}"


def measured_systems(window: Windows, int8: bool) -> list[MeasuredSystem]:
    """Full attention and the window with every path; full attention also with transformers' ``generate()``."""
    full = [MeasuredSystem(AttentionWindow(), path) for path in (TRANSFORMERS, GENERATE, LEAN)]
    return [*full, *(MeasuredSystem(window, path) for path in (TRANSFORMERS, LEAN, *([INT8] if int8 else [])))]


def open_steps(system: MeasuredSystem, backbone: Backbone) -> Steps:
    """Prepare a system on a model.

    Raises:
        ValueError: If the model does not support the path; the message gives the reason.
    """
    if system.path == GENERATE:
        return StockGenerate(backbone)
    body: Body = "transformers" if system.path == TRANSFORMERS else "lean"
    return DecoderSteps(Decoder(backbone, system.window, body, int8=system.path == INT8))


def make_cache(
    system: MeasuredSystem, backbone: Backbone, prefix: int, columns: int, rows: int
) -> PrefixWindowCache | DynamicCache:
    """The cache of a system after a number of speech columns."""
    filled = filled_cache(backbone, prefix, columns, system.window, rows)
    if system.path != GENERATE:
        return filled
    stock = DynamicCache()
    for index, layer in enumerate(filled.layers):
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert layer.values is not None
        stock.update(layer.keys, layer.values, index)
    return stock


class DecoderSteps:
    """wand's own decoding step.

    Args:
        decoder: The model and its window.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    @torch.inference_mode()
    def begin(self, cache: PrefixWindowCache | FullCache, prefix_length: int, rows: int) -> Halves:
        """Begin with random logits and the model's own sampling settings."""
        decoder, backbone = self.decoder, self.decoder.backbone
        head = backbone.speech_head()
        device = backbone.device
        sampler = Sampler(backbone.sampling, range(rows), backbone.forbidden_tokens(), device)
        logits = torch.randn(rows, backbone.num_codebooks, backbone.speech_vocab_size, device=device)
        sampler.prepare(*logits.shape[1:])
        tokens = torch.zeros(logits.shape[:2], dtype=torch.long, device=device)

        @torch.inference_mode()
        def draw() -> None:
            tokens.copy_(sampler(logits))
            sampler.remember(tokens)

        @torch.inference_mode()
        def feed() -> None:
            logits.copy_(head.logits(decoder.step(cache, tokens)))

        def state() -> list[Tensor]:
            return [logits, tokens, cache.positions, *sampler.state()]

        return capture(draw, feed, state) if decoder.can_be_captured else (draw, feed)


class StockGenerate:
    """The step without wand: transformers' causal language model with greedy `generate()` and `DynamicCache`.

    It uses the weights of the backbone.

    Args:
        backbone: The model.

    Raises:
        ValueError: If the model does not have one codebook, one table of tokens and one linear head.
    """

    def __init__(self, backbone: Backbone) -> None:
        config = copy.deepcopy(backbone.decoder.config)
        causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        table = token_table(backbone.decoder)
        one_table = table is not None and len(table) >= backbone.speech_vocab_size
        own = backbone.speech_head()
        if causal is None or backbone.num_codebooks > 1 or not one_table or not isinstance(own, LinearHead):
            raise ValueError("transformers' generate() needs one codebook and the body's own embedding of tokens")
        with torch.device("meta"):
            self.model: Any = causal(config)
        weight, bias = own.weight, own.bias
        _, rows, width = weight.shape
        head = nn.Linear(width, rows, bias=bias is not None, device="meta")
        head.weight = nn.Parameter(weight[0], requires_grad=False)
        if bias is not None:
            head.bias = nn.Parameter(bias[0], requires_grad=False)
        self.body = stock_twin(backbone.decoder)
        setattr(self.model, self.model.base_model_prefix, self.body)
        self.model.set_output_embeddings(head)
        self.model.eval()
        # The padding token is not among the tokens fed, so nothing is padded.
        self.settings = GenerationConfig(max_new_tokens=GENERATED, do_sample=False, pad_token_id=1)

    def begin(self, cache: DynamicCache, prefix_length: int, rows: int) -> Halves:
        """The first half does nothing, because `generate()` also samples."""
        length = cache.get_seq_length()
        ids = torch.zeros(rows, length + 1, dtype=torch.long, device=self.body.device)

        @torch.inference_mode()
        def speak() -> Tensor:
            spoken: Tensor = self.model.generate(ids, past_key_values=cache, generation_config=self.settings)
            # Remove the new columns, so that the next call begins where this one did.
            cache.crop(length - cache.get_seq_length())
            return spoken[:, length + 1 :]

        return (lambda: None), speak
