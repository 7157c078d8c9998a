"""Speaking column by column: the step every other path is compared with, and a whole decode around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wand.attention import AttentionContext, AttentionWindow
from wand.backbone import Backbone
from wand.conditioning import ConditionedBatch
from wand.decoding.cache import FullCache, PrefixWindowCache
from wand.decoding.sampling import MASKED, Sampler, Sampling
from wand.decoding.stopping import StopReason, StopRules

# Frames of a row that has not stopped yet: beyond any length.
SPEAKING = torch.iinfo(torch.int32).max
# Columns between two looks at the slower stop rules.
CHECK_EVERY = 16


class Decoder:
    """A backbone under one window, with the cache of one run: `prefill` once, then `step` by step.

    Args:
        backbone: The model.
        window: Hard window; full attention keeps every column.

    Raises:
        ValueError: If the window is soft: decoding uses the hard mask.
    """

    def __init__(self, backbone: Backbone, window: AttentionWindow) -> None:
        if window.tau is not None:
            raise ValueError(f"decoding uses the hard mask, but the window has tau {window.tau}")
        self.backbone = backbone
        self.window = window
        self.cache: PrefixWindowCache | FullCache | None = None
        self._prefix_length = 0

    def go_on_from(self, cache: PrefixWindowCache | FullCache, prefix_length: int) -> None:
        """Let the next step continue a cache that holds a prefix of so many columns, and what was spoken after it."""
        self.cache = cache
        self._prefix_length = prefix_length

    @torch.inference_mode()
    def prefill(self, batch: ConditionedBatch) -> Tensor:
        """Take the prefix in; logits ``[B, K, V]`` of the first speech column."""
        embeds = self.backbone.embed_prefix(batch)
        self.go_on_from(self._make_cache(batch, embeds), batch.prefix_length)
        return self._forward(
            embeds,
            torch.arange(batch.prefix_length, device=embeds.device).expand(len(batch), -1),
            AttentionContext(AttentionWindow(), batch.prefix_length, batch.padded_starts),
        )

    @torch.inference_mode()
    def step(self, columns: Tensor) -> Tensor:
        """Feed one speech column ``[B, K]`` per row; logits ``[B, K, V]`` of the next."""
        assert self.cache is not None, "prefill comes before the first step"
        positions = self.cache.positions.expand(len(columns)).clone()
        embeds = self.backbone.embed_speech(columns[:, None], positions - self._prefix_length)
        return self._forward(embeds, positions[:, None], self.cache.step_context())

    def _forward(self, embeds: Tensor, columns: Tensor, context: object) -> Tensor:
        assert self.cache is not None
        starts = torch.zeros_like(columns[:, 0]) if self.cache.starts is None else self.cache.starts
        output = self.backbone.decoder(
            inputs_embeds=embeds,
            position_ids=self.backbone.position_ids(columns, starts),
            past_key_values=self.cache,
            use_cache=True,
            attention_context=context,
        )
        return self.backbone.logits(output.last_hidden_state[:, -1:])[:, 0]

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


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """What one row spoke.

    Args:
        codes: ``[K, F]``, complete frames.
        columns: ``[T, K]`` as they were fed back.
        reason: Why it ended.
    """

    codes: Tensor
    columns: Tensor
    reason: StopReason


def generate(
    backbone: Backbone,
    batch: ConditionedBatch,
    window: AttentionWindow,
    *,
    rules: StopRules,
    sampling: Sampling | None = None,
    seeds: Sequence[int] | None = None,
    on_column: Callable[[], object] | None = None,
) -> list[Generation]:
    """Speak every row of a batch until it ends.

    Args:
        backbone: The model, in eval mode.
        batch: Conditioning of B rows, on any device (speech columns in it are not used).
        window: Hard window; full attention for the teacher.
        rules: When to end beside the stop token.
        sampling: How tokens are drawn; the backbone's own way by default.
        seeds: One per row; 0, 1, 2 ... by default. What a row speaks depends on its own seed alone.
        on_column: Called after every column, for progress bars.

    Returns:
        One `Generation` per row.
    """
    rows = len(batch)
    layout = backbone.layout
    limit = min(rules.max_columns, backbone.max_speech_tokens or rules.max_columns)
    least, limits = [0] * rows, [limit] * rows
    forbidden = backbone.forbidden_tokens()
    device = next(backbone.parameters()).device
    batch = batch.to(device)
    if (bounds := backbone.speech_bounds(batch)) is not None:
        least, limits = bounds[0].tolist(), [min(limit, most) for most in bounds[1].tolist()]
    sampler = Sampler(
        sampling or backbone.sampling,
        range(rows) if seeds is None else seeds,
        None if forbidden is None else forbidden.to(device),
    )
    allowed = layout.allowed_rows(backbone.speech_vocab_size)
    allowed = None if allowed is None else allowed.to(device)
    decoder = Decoder(backbone, window)
    logits = decoder.prefill(batch)
    frames = torch.full((rows,), SPEAKING, device=device)
    spoken: list[Tensor] = []
    ended: dict[int, tuple[int, StopReason]] = {}
    stop_ids = torch.tensor(backbone.stop_ids, device=device)
    while True:
        step = len(spoken)
        if allowed is not None:
            logits = logits.masked_fill(~allowed[step % len(allowed)], MASKED)
        if early := [row for row in range(rows) if step < least[row]]:
            logits = logits.clone()
            logits[early, 0, layout.stop_id] = MASKED
        tokens = sampler(logits)
        stopping = torch.isin(tokens[:, 0], stop_ids) & (frames == SPEAKING)
        frames = torch.where(stopping, step, frames)
        # A delayed codebook speaks on for its delay after the stop.
        for row in (frames + layout.flush_columns <= step).nonzero().flatten().tolist():
            ended.setdefault(row, (step, StopReason.STOP_TOKEN))
        if len(ended) == rows:
            break
        spoken.append(layout.settle(tokens, step, frames))
        sampler.remember(spoken[-1])
        if on_column is not None:
            on_column()
        if (step + 1) % CHECK_EVERY == 0 or step + 1 in limits:
            _check_rules(torch.stack(spoken, dim=1), rules, limits, frames, ended)
            if len(ended) == rows:
                break
        logits = decoder.step(spoken[-1])
    columns = (
        torch.stack(spoken, dim=1).cpu() if spoken else torch.zeros(rows, 0, layout.num_codebooks, dtype=torch.long)
    )
    results = []
    for row in range(rows):
        length, reason = ended[row]
        own = columns[row, :length]
        results.append(Generation(layout.from_columns(own), own, reason))
    return results


def _check_rules(
    columns: Tensor, rules: StopRules, limits: list[int], frames: Tensor, ended: dict[int, tuple[int, StopReason]]
) -> None:
    """End rows by rule. A row that is only flushing its delayed codebooks is left to finish."""
    spoken = columns.shape[1]
    for row in range(columns.shape[0]):
        if row in ended or (int(frames[row]) != SPEAKING and spoken < limits[row]):
            continue
        reason = StopReason.LENGTH if spoken >= limits[row] else rules.check(columns[row])
        if reason is not None:
            ended[row] = (spoken, reason)
