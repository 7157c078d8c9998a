"""Measures the steps of a model: every system at every speech length and batch size.

Times are medians of alternating steps with randomly filled caches. Bytes and FLOPs are computed from shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from wand.attention import AttentionContext, AttentionWindow
from wand.benchmark.cost import interleaved_milliseconds, seconds_to_columns
from wand.benchmark.counts import step_flops, weight_bytes
from wand.benchmark.machine import shortage
from wand.benchmark.paths import GENERATE, INT8, MeasuredSystem, Steps, make_cache, open_steps
from wand.codecs import Codec
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.model.backbone import Backbone

# Time limit, in seconds, for all systems at one length and batch size.
BUDGET = 6.0
WARMUP = 3
# Seconds of speech in the first piece of audio.
FIRST_SECONDS = 1.0
# Seconds of speech that are decoded to measure the codec's part of the real-time factor.
LONGER_SECONDS = 10.0


@dataclass(frozen=True)
class Place:
    """The speech length and batch size at which a step is measured.

    Args:
        seconds: Seconds of speech before the step.
        rows: B.
    """

    seconds: float
    rows: int = 1


@dataclass(frozen=True)
class StepCost:
    """The cost of one step of one system at one place.

    Args:
        system: Name of the system.
        window: W, or W of each layer; None is full attention.
        path: How the step is computed (see `MeasuredSystem`).
        seconds: Seconds of speech before the step.
        columns: Speech columns before the step.
        rows: B.
        kv_bytes: Bytes of the cache, for all rows.
        attention_flops: FLOPs of the attention, for all rows (see `wand.benchmark.counts`).
        flops: Total FLOPs, for all rows.
        read_bytes: Bytes of weights, keys and values that the step must read.
        milliseconds: Median time of the step; None if it could not be measured.
        drawing: Milliseconds to sample the tokens of all rows. generate() samples within the step.
        reason: Why the step could not be measured; None if it was measured.
    """

    system: str
    window: int | list[int] | None
    path: str
    seconds: float
    columns: int
    rows: int
    kv_bytes: int
    attention_flops: int
    flops: int
    read_bytes: int
    milliseconds: float | None = None
    drawing: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class SpeechCost:
    """The cost of one voice besides its steps, in milliseconds.

    Args:
        prefix: Time to prefill P columns.
        codec_first: Time to decode `FIRST_SECONDS` of codes; None without a codec.
        codec_second: Time to decode one second of a longer speech; None without a codec.
        reason: Why the codec could not be measured; None if it was.
    """

    prefix: float
    codec_first: float | None
    codec_second: float | None
    reason: str | None


class Bench:
    """A model and the systems to compare on it. Each system's decoder is opened once.

    Args:
        backbone: The model in eval mode, on its device.
        systems: The systems to compare.
        prefix: P.
        repeats: Number of timed steps per system, unless the time limit `BUDGET` ends them earlier.
    """

    def __init__(self, backbone: Backbone, systems: Sequence[MeasuredSystem], prefix: int, repeats: int) -> None:
        self.backbone, self.systems, self.prefix, self.repeats = backbone, systems, prefix, repeats
        self.device = backbone.device
        self.opened: dict[MeasuredSystem, Steps | str] = {}
        for system in systems:
            try:
                self.opened[system] = open_steps(system, backbone)
            except ValueError as error:
                self.opened[system] = str(error)

    @torch.inference_mode()
    def steps(self, place: Place, budget: float = BUDGET) -> list[StepCost]:
        """Measure all systems at one place, with alternating steps."""
        columns = seconds_to_columns(self.backbone, place.seconds) if place.seconds else 0
        costs = {system: self._counted(system, place, columns) for system in self.systems}
        calls: list[Callable[[], object]] = []
        measured: list[MeasuredSystem] = []
        for system, opened in self.opened.items():
            reason = opened if isinstance(opened, str) else self._obstacle(system, columns, place.rows)
            if isinstance(opened, str) or reason is not None:
                costs[system] = replace(costs[system], reason=reason)
                continue
            cache = make_cache(system, self.backbone, self.prefix, columns, place.rows)
            calls += opened.begin(cache, self.prefix, place.rows)
            measured.append(system)
        times = interleaved_milliseconds(calls, self.device, self.repeats, WARMUP, budget)
        for system, drawing, fed in zip(measured, times[::2], times[1::2], strict=True):
            costs[system] = replace(costs[system], drawing=drawing, milliseconds=fed / system.columns_per_step)
        return list(costs.values())

    def longest(self, seconds: float) -> float:
        """The given seconds, or fewer if the model's learned positions end earlier."""
        bound = self.backbone.max_speech_tokens
        if bound is None:
            return seconds
        return min(seconds, max(bound - self.repeats - WARMUP, 1) / self.backbone.columns_per_second)

    def _obstacle(self, system: MeasuredSystem, columns: int, rows: int) -> str | None:
        """The reason why a system cannot be measured at a place; None if it can."""
        if system.path == GENERATE and rows > 1:
            return f"one call speaks {system.columns_per_step} columns, so it is timed only for one row"
        bound = self.backbone.max_speech_tokens
        if bound is not None and columns + (self.repeats + WARMUP) * system.columns_per_step > bound:
            return f"the model's learned positions end after {bound / self.backbone.columns_per_second:.0f} s"
        # A growing cache may reserve as much memory again as it uses.
        room = 2 if system.window.is_full else 1
        return shortage(room * system.cache_bytes(self.backbone, self.prefix, columns, rows), self.device)

    def _counted(self, system: MeasuredSystem, place: Place, columns: int) -> StepCost:
        """The computed figures of a step, without times."""
        held = system.cache_bytes(self.backbone, self.prefix, columns, place.rows)
        attention, total = step_flops(self.backbone, system.keys(self.backbone, self.prefix, columns), place.rows)
        return StepCost(
            system=system.name,
            window=system.window.plain,
            path=system.path,
            seconds=place.seconds,
            columns=columns,
            rows=place.rows,
            kv_bytes=held,
            attention_flops=attention,
            flops=total,
            read_bytes=weight_bytes(self.backbone, system.path == INT8) + held,
        )

    @torch.inference_mode()
    def speech(self, codec: Codec | None) -> SpeechCost:
        """Measure the costs besides the steps, for one row."""
        width, dtype = self.backbone.decoder.config.hidden_size, self.backbone.dtype
        embeds = torch.randn(1, self.prefix, width, dtype=dtype, device=self.device)
        calls: list[Callable[[], object]] = [partial(self._take_prefix, embeds)]
        reason = "not available" if codec is None else None
        if codec is not None and (codec.needs_reference or codec.needs_latents):
            reason = "not measured, because it needs a voice or the model's states, and random codes have neither"
        if codec is not None and reason is None:
            for seconds in (FIRST_SECONDS, LONGER_SECONDS):
                shape = (1, codec.num_codebooks, round(seconds * codec.frame_rate))
                calls.append(partial(codec.decode, torch.randint(codec.codebook_size, shape, device=self.device)))
        prefix, *decoded = interleaved_milliseconds(calls, self.device, self.repeats, WARMUP, BUDGET)
        first, longer = decoded or (None, None)
        return SpeechCost(prefix, first, None if longer is None else longer / LONGER_SECONDS, reason)

    def _take_prefix(self, embeds: torch.Tensor) -> torch.Tensor:
        """Prefill an embedded prefix into a new cache. The work is the same for every kind of attention."""
        cache = PrefixWindowCache(
            self.backbone.decoder.config,
            prefix_length=self.prefix,
            window=1,
            dtype=embeds.dtype,
            device=embeds.device,
        )
        columns = torch.arange(self.prefix, device=embeds.device)[None]
        output = self.backbone.decoder(
            inputs_embeds=embeds,
            position_ids=self.backbone.position_ids(columns, torch.zeros(1, dtype=torch.long, device=embeds.device)),
            past_key_values=cache,
            use_cache=True,
            attention_context=AttentionContext(AttentionWindow(), self.prefix),
        )
        return self.backbone.logits(output.last_hidden_state[:, -1:])
