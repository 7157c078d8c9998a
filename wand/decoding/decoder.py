"""Decodes with a model under one window, column by column. All state of a run is in its cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from wand.attention import AttentionContext, Windows
from wand.attention.interface import Attends
from wand.decoding.watch import AlignmentWatch
from wand.kv_cache.full import FullCache
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.kv_cache.prefixes import PrefixMemory, RestContext, load_known
from wand.lean.body import LeanBody, reason_against_lean
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch

Body = Literal["auto", "transformers", "lean"]
DecodingCache = PrefixWindowCache | FullCache
"""Holds the state of a run."""


class Decoder:
    """Runs a backbone under one window: `prefill` returns a cache, and each `step` advances it by one column.

    A decoder does not change during a run, so runs may share it, in turns or from several threads.

    Args:
        backbone: The model.
        window: Hard window of the layers. Full attention keeps every column.
        body: Implementation of the layers. ``transformers`` is the reference, ``lean`` computes the same numbers faster
            (Llama, Qwen2, GPT-2), ``auto`` uses ``lean`` where possible.
        int8: Use int8 weights (lean body on a CPU only). This is faster but changes the results slightly.
        memory: Keeps recent prefixes, so that a voice is not computed again when it is used again; None keeps none.

    Raises:
        ValueError: If the window is soft (decoding uses the hard mask), or the model cannot use the body.
    """

    def __init__(
        self,
        backbone: Backbone,
        window: Windows,
        body: Body = "auto",
        int8: bool = False,
        memory: PrefixMemory | None = None,
    ) -> None:
        if window.tau is not None:
            raise ValueError(f"decoding uses the hard mask, but the window has tau {window.tau}")
        if int8 and body == "transformers":
            raise ValueError("int8 needs the lean body: set body to lean or auto")
        self.backbone = backbone
        self.window = window
        wanted = int8 or body == "lean" or (body == "auto" and reason_against_lean(backbone.decoder) is None)
        self.lean = LeanBody(backbone.decoder, int8) if wanted else None
        self.memory = memory

    @property
    def can_be_captured(self) -> bool:
        """Whether a step can be a CUDA graph: its shapes are static and it never waits for the host."""
        return self.lean is not None and not self.window.is_full and self.backbone.decoder.device.type == "cuda"

    @torch.inference_mode()
    def prefill(self, batch: ConditionedBatch) -> tuple[Tensor, DecodingCache]:
        """Start a run: compute the prefix.

        Args:
            batch: Conditioning of B rows. Its speech columns are not used.

        Returns:
            The hidden states ``[B, D]`` from which the head predicts the first speech column, and the cache of the run.
        """
        return self._first_pass(replace(batch, columns=batch.columns[:, :0], offsets=None))

    @torch.inference_mode()
    def go_on(self, batch: ConditionedBatch) -> tuple[Tensor, DecodingCache]:
        """Start a run in the middle of speeches: compute the prefix, then the newest columns of each speech again.

        Args:
            batch: Conditioning, columns and offsets of B rows. Every row has the same number of columns: all of its
                speech since the text of its prefix began, or at least as many as the largest window. Needs a window.

        Returns:
            As `prefill`: the hidden states that predict the column after the last of the batch, and the cache.
        """
        return self._first_pass(batch)

    def _first_pass(self, batch: ConditionedBatch) -> tuple[Tensor, DecodingCache]:
        embeds, columns = self.backbone.embed(batch)
        columns = columns.expand(len(batch), -1)
        cache = self._make_cache(batch, embeds)
        if batch.columns.shape[1]:
            assert isinstance(cache, PrefixWindowCache), "a run under full attention cannot start in the middle"
            cache.reread(batch.columns.shape[1], batch.first_columns)
        context = AttentionContext(self.window, batch.prefix_length, batch.padded_starts)
        if self.memory is None or isinstance(cache, FullCache):
            return self._forward(cache, embeds, columns, context), cache
        prefix = embeds[:, : batch.prefix_length]
        column = 0
        if (found := self.memory.find(prefix, cache.starts)) is not None:
            known, column = found
            load_known(cache, known, column)
            if cache.prefilled:
                return known.hidden.expand(len(batch), -1).clone(), cache
        rest = RestContext(column, embeds.shape[1], context)
        hidden = self._forward(cache, embeds[:, column:], columns[:, column:], rest)
        if not batch.columns.shape[1]:  # a speech that goes on has a new text, which no other speech will have
            self.memory.remember(prefix, cache.starts, hidden, cache)
        return hidden, cache

    @torch.inference_mode()
    def step(self, cache: DecodingCache, columns: Tensor, watch: AlignmentWatch | None = None) -> Tensor:
        """Advance a run by one column.

        Args:
            cache: The cache of the run, from `prefill`; changed in place.
            columns: ``[B, K]``, the new speech column of every row.
            watch: Notes where the alignment heads look.

        Returns:
            The hidden states ``[B, D]`` from which the head predicts the next column.
        """
        positions = cache.positions.expand(len(columns)).clone()
        embeds = self.backbone.embed_speech(columns[:, None], positions - cache.prefix_length)
        context: Attends = cache.step_context()
        return self._forward(cache, embeds, positions[:, None], watch.context(context) if watch else context)

    def _forward(self, cache: DecodingCache, embeds: Tensor, columns: Tensor, context: Attends) -> Tensor:
        starts = torch.zeros_like(columns[:, 0]) if cache.starts is None else cache.starts
        positions = self.backbone.position_ids(columns, starts)
        if self.lean is not None:
            hidden = self.lean(embeds, positions, cache, context)
        else:
            hidden = self.backbone.decoder(
                inputs_embeds=embeds,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                attention_context=context,
            ).last_hidden_state
        return self.backbone.project(hidden[:, -1:])[:, 0]

    def _make_cache(self, batch: ConditionedBatch, embeds: Tensor) -> DecodingCache:
        window = self.window.plain
        if window is None:
            return FullCache(batch.prefix_length, batch.padded_starts)
        return PrefixWindowCache(
            self.backbone.key_value_shape,
            prefix_length=batch.prefix_length,
            window=window,
            batch_size=len(batch),
            dtype=embeds.dtype,
            device=embeds.device,
            starts=batch.starts,
        )
