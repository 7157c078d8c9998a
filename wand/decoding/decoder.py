"""A model under one window, stepped column by column."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.interface import Attends
from wand.backbone import Backbone
from wand.conditioning import ConditionedBatch
from wand.decoding.cache import FullCache, PrefixWindowCache
from wand.decoding.lean import LeanBody, reason_against_lean
from wand.decoding.prefixes import PrefixMemory, RestContext, load_known

Body = Literal["auto", "transformers", "lean"]


class Decoder:
    """A backbone under one window, with the cache of one run: `prefill` once, then `step` by step.

    Args:
        backbone: The model.
        window: Hard window; full attention keeps every column.
        body: What computes the layers: the ``transformers`` body, the reference; a ``lean`` one, the same numbers
            faster (Llama, Qwen2, GPT-2); ``auto`` is lean where that is possible.
        int8: Multiply by int8 weights, in the lean body on a CPU: faster, and not quite the same numbers.
        memory: Remembers prefixes, so that a voice that is used again is not computed again; None does not.

    Raises:
        ValueError: If the window is soft (decoding uses the hard mask), or the body is not possible.
    """

    def __init__(
        self,
        backbone: Backbone,
        window: AttentionWindow,
        body: Body = "auto",
        int8: bool = False,
        memory: PrefixMemory | None = None,
    ) -> None:
        if window.tau is not None:
            raise ValueError(f"decoding uses the hard mask, but the window has tau {window.tau}")
        if int8 and body == "transformers":
            raise ValueError("int8 needs the lean body, not that of transformers")
        self.backbone = backbone
        self.window = window
        wanted = int8 or body == "lean" or (body == "auto" and reason_against_lean(backbone.decoder) is None)
        self.lean = LeanBody(backbone.decoder, int8) if wanted else None
        self.memory = memory
        self.cache: PrefixWindowCache | FullCache | None = None
        self._prefix_length = 0

    def another(self) -> Decoder:
        """The same model and window, for another cache."""
        made = copy.copy(self)
        made.cache = None
        return made

    @property
    def can_be_captured(self) -> bool:
        """Whether a step can be a CUDA graph: static shapes, nothing that waits for the host."""
        return self.lean is not None and self.window.size is not None and self.backbone.decoder.device.type == "cuda"

    def go_on_from(self, cache: PrefixWindowCache | FullCache, prefix_length: int) -> None:
        """Let the next step continue a cache that holds a prefix of so many columns, and what was spoken after it."""
        self.cache = cache
        self._prefix_length = prefix_length

    @torch.inference_mode()
    def prefill(self, batch: ConditionedBatch) -> Tensor:
        """Take the prefix in; logits ``[B, K, V]`` of the first speech column."""
        embeds = self.backbone.embed_prefix(batch)
        cache = self._make_cache(batch, embeds)
        self.go_on_from(cache, batch.prefix_length)
        columns = torch.arange(batch.prefix_length, device=embeds.device).expand(len(batch), -1)
        if self.memory is None or isinstance(cache, FullCache):
            context = AttentionContext(AttentionWindow(), batch.prefix_length, batch.padded_starts)
            return self._forward(embeds, columns, context)
        found = self.memory.find(embeds, cache.starts)
        if found is None:
            column = 0
        else:
            known, column = found
            load_known(cache, known, column)
        rest = RestContext(column, batch.prefix_length, cache.starts)
        logits = self._forward(embeds[:, column:], columns[:, column:], rest)
        self.memory.remember(embeds, cache.starts, cache)
        return logits

    @torch.inference_mode()
    def step(self, columns: Tensor) -> Tensor:
        """Feed one speech column ``[B, K]`` per row; logits ``[B, K, V]`` of the next."""
        assert self.cache is not None, "prefill comes before the first step"
        positions = self.cache.positions.expand(len(columns)).clone()
        embeds = self.backbone.embed_speech(columns[:, None], positions - self._prefix_length)
        return self._forward(embeds, positions[:, None], self.cache.step_context())

    def _forward(self, embeds: Tensor, columns: Tensor, context: Attends) -> Tensor:
        assert self.cache is not None
        starts = torch.zeros_like(columns[:, 0]) if self.cache.starts is None else self.cache.starts
        positions = self.backbone.position_ids(columns, starts)
        if self.lean is not None:
            hidden = self.lean(embeds, positions, self.cache, context)
        else:
            hidden = self.backbone.decoder(
                inputs_embeds=embeds,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                attention_context=context,
            ).last_hidden_state
        return self.backbone.logits(hidden[:, -1:])[:, 0]

    def _make_cache(self, batch: ConditionedBatch, embeds: Tensor) -> PrefixWindowCache | FullCache:
        if self.window.size is None:
            return FullCache(batch.padded_starts)
        return PrefixWindowCache(
            self.backbone.decoder.config,
            prefix_length=batch.prefix_length,
            window=self.window.size,
            batch_size=len(batch),
            dtype=embeds.dtype,
            device=embeds.device,
            starts=batch.starts,
        )
