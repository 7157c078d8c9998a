"""A model measured: every system at every length and batch, side by side, beside what was counted.

Time is the median of interleaved steps from caches that were filled at random. Bytes and FLOPs are counted from shapes.
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
from wand.decoding.cache import PrefixWindowCache
from wand.model.backbone import Backbone

# Seconds that the systems of one length and batch may take together.
BUDGET = 6.0
WARMUP = 3
# Speech of which the first sound is made.
FIRST_SECONDS = 1.0
# Speech whose decoding tells the codec's part of the real-time factor.
LONGER_SECONDS = 10.0


@dataclass(frozen=True)
class Place:
    """Where a step is measured.

    Args:
        seconds: Of speech before it.
        rows: B.
    """

    seconds: float
    rows: int = 1


@dataclass(frozen=True)
class StepCost:
    """One step of one system at one place.

    Args:
        system: Name.
        window: W; None is full attention.
        path: How it is computed.
        seconds: Of speech before it.
        columns: The same in columns.
        rows: B.
        kv_bytes: Of the cache, all rows.
        attention_flops: Of all rows, see `wand.benchmark.counts`.
        flops: Total of all rows.
        read_bytes: Weights, and keys and values, that the step must read.
        milliseconds: Median; None where it was not possible.
        drawing: Milliseconds in which the tokens of all rows are drawn; generate() does it in the step.
        reason: Why it was not.
    """

    system: str
    window: int | None
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
    """What one voice costs beside its columns, in milliseconds.

    Args:
        prefix: Taking P columns in.
        codec_first: Decoding `FIRST_SECONDS` of codes; None without a codec.
        codec_second: Decoding, per second of a longer speech; None without a codec.
        reason: Why there is no codec.
    """

    prefix: float
    codec_first: float | None
    codec_second: float | None
    reason: str | None


class Bench:
    """A model and the systems that are compared on it; decoders are opened once.

    Args:
        backbone: In eval mode, where it will run.
        systems: What is compared.
        prefix: P.
        repeats: Steps timed of each, as far as `BUDGET` allows.
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
        """All systems at one place, taking turns."""
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
        """So many seconds, or those that the model's learned positions leave room for."""
        bound = self.backbone.max_speech_tokens
        if bound is None:
            return seconds
        return min(seconds, max(bound - self.repeats - WARMUP, 1) / self.backbone.columns_per_second)

    def _obstacle(self, system: MeasuredSystem, columns: int, rows: int) -> str | None:
        """Why a system cannot be measured there."""
        if system.path == GENERATE and rows > 1:
            return f"a call speaks {system.columns_per_step} columns, so it is timed for one row only"
        bound = self.backbone.max_speech_tokens
        if bound is not None and columns + (self.repeats + WARMUP) * system.columns_per_step > bound:
            return f"the model's learned positions end after {bound / self.backbone.columns_per_second:.0f} s"
        # A growing cache keeps as much room to spare as it holds.
        room = 2 if system.window is None else 1
        return shortage(room * system.cache_bytes(self.backbone, self.prefix, columns, rows), self.device)

    def _counted(self, system: MeasuredSystem, place: Place, columns: int) -> StepCost:
        """All but the time."""
        held = system.cache_bytes(self.backbone, self.prefix, columns, place.rows)
        attention, total = step_flops(self.backbone, system.keys(self.prefix, columns), place.rows)
        return StepCost(
            system=system.name,
            window=system.window,
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
        """What is paid beside the steps, for one row."""
        width, dtype = self.backbone.decoder.config.hidden_size, self.backbone.dtype
        embeds = torch.randn(1, self.prefix, width, dtype=dtype, device=self.device)
        calls: list[Callable[[], object]] = [partial(self._take_prefix, embeds)]
        reason = "the codec is not at hand" if codec is None else None
        if codec is not None and (codec.needs_reference or codec.needs_latents):
            reason = "the codec needs a voice or the model's states, random codes have neither"
        if codec is not None and reason is None:
            for seconds in (FIRST_SECONDS, LONGER_SECONDS):
                shape = (1, codec.num_codebooks, round(seconds * codec.frame_rate))
                calls.append(partial(codec.decode, torch.randint(codec.codebook_size, shape, device=self.device)))
        prefix, *decoded = interleaved_milliseconds(calls, self.device, self.repeats, WARMUP, BUDGET)
        first, longer = decoded or (None, None)
        return SpeechCost(prefix, first, None if longer is None else longer / LONGER_SECONDS, reason)

    def _take_prefix(self, embeds: torch.Tensor) -> torch.Tensor:
        """A prefix that is embedded already, through the body into a new cache; the same whatever the attention."""
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
