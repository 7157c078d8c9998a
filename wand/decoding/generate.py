"""Whole decodes: a batch, a list of requests over a fixed number of slots, one speech as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wand.conditioning import ConditionedBatch, Conditioning, make_batch
from wand.decoding.decoder import Decoder
from wand.decoding.sampling import Sampling
from wand.decoding.slots import Generation, Slots
from wand.decoding.stopping import StopReason, StopRules

# Slots that have ended are given up when no more than this share of them speaks.
SHRINK_AT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One speech that is wanted.

    Args:
        conditioning: Of the adapter's conditioner.
        seed: What it draws with.
        max_columns: Columns at most; those of the rules by default.
    """

    conditioning: Conditioning
    seed: int = 0
    max_columns: int | None = None


def generate(
    decoder: Decoder,
    batch: ConditionedBatch,
    *,
    rules: StopRules,
    sampling: Sampling | None = None,
    seeds: Sequence[int] | None = None,
    on_column: Callable[[], object] | None = None,
) -> list[Generation]:
    """Speak every row of a batch until it ends.

    Args:
        decoder: The model, in eval mode, and its window.
        batch: Conditioning of B rows, on any device (speech columns in it are not used).
        rules: When to end beside the stop token.
        sampling: How tokens are drawn; the backbone's own way by default.
        seeds: One per row; 0, 1, 2 ... by default. What a row speaks depends on its own seed alone.
        on_column: Called after every column, for progress bars.

    Returns:
        One `Generation` per row.
    """
    slots = Slots(
        decoder,
        batch,
        seeds=range(len(batch)) if seeds is None else seeds,
        limits=[rules.max_columns] * len(batch),
        rules=rules,
        sampling=sampling,
    )
    places = list(range(len(batch)))
    spoken: dict[int, Generation] = {}
    while slots.speaking:
        spoken |= {places[row]: generation for row, generation in _advance(slots, on_column).items()}
        places = _shrunk(slots, places)
    return [spoken[row] for row in range(len(batch))]


def generate_all(
    decoder: Decoder,
    requests: Sequence[Request],
    *,
    rules: StopRules,
    rows: int,
    sampling: Sampling | None = None,
    on_column: Callable[[], object] | None = None,
    on_done: Callable[[int], object] | None = None,
) -> list[Generation]:
    """Speak any number of requests, so many at a time: where one ends, the next begins.

    Under full attention rows are in step, so that a whole group ends before the next begins.

    Args:
        decoder: The model, in eval mode, and its window.
        requests: What is wanted, begun in this order.
        rules: When to end beside the stop token.
        rows: Slots.
        sampling: How tokens are drawn; the backbone's own way by default.
        on_column: Called after every column.
        on_done: Called with the number of requests that are done.

    Returns:
        One `Generation` per request.
    """
    limits = [request.max_columns or rules.max_columns for request in requests]
    in_step = decoder.window.is_full
    longest = max((decoder.backbone.conditioner.length(request.conditioning) for request in requests), default=0)
    spoken: dict[int, Generation] = {}
    queue = list(range(len(requests)))
    while queue:
        places, queue = queue[:rows], queue[rows:]
        slots = Slots(
            decoder,
            _batch(decoder, [requests[i] for i in places], None if in_step else longest),
            seeds=[requests[i].seed for i in places],
            limits=[limits[i] for i in places],
            rules=rules,
            sampling=sampling,
        )
        while slots.speaking:
            ended = _advance(slots, on_column)
            if not ended:
                continue
            spoken |= {places[row]: generation for row, generation in ended.items()}
            if on_done is not None:
                on_done(len(spoken))
            if not in_step and queue:
                free = slots.free[: len(queue)]
                begun, queue = queue[: len(free)], queue[len(free) :]
                own = [requests[i] for i in begun]
                slots.admit(free, _batch(decoder, own), [one.seed for one in own], [limits[i] for i in begun])
                for row, i in zip(free, begun, strict=True):
                    places[row] = i
            places = _shrunk(slots, places)
    return [spoken[i] for i in range(len(requests))]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A part of a speech as it comes.

    Args:
        codes: ``[K, n]``, the newest complete frames.
        reason: Why the speech ended, in its last part.
    """

    codes: Tensor
    reason: StopReason | None = None


def stream(
    decoder: Decoder,
    conditioning: Conditioning,
    *,
    rules: StopRules,
    sampling: Sampling | None = None,
    seed: int = 0,
    first_frames: int = 10,
    frames: int = 25,
) -> Iterator[Chunk]:
    """One speech in parts, each as soon as it is there; the same codes as `generate` gives with this seed.

    Args:
        decoder: The model, in eval mode, and its window.
        conditioning: Of the adapter's conditioner.
        rules: When to end beside the stop token.
        sampling: How tokens are drawn; the backbone's own way by default.
        seed: What it draws with.
        first_frames: Frames of the first part: how soon it is heard.
        frames: Frames of every other part.

    Yields:
        Parts; the last one, perhaps without a frame, tells why the speech ended.
    """
    layout = decoder.backbone.layout
    batch = _batch(decoder, [Request(conditioning)])
    slots = Slots(decoder, batch, seeds=[seed], limits=[rules.max_columns], rules=rules, sampling=sampling)
    columns: list[Tensor] = []  # those of frames that were not given yet
    given, wanted = 0, first_frames
    while True:
        # Nothing is given that lies beyond an end which nobody has looked at yet.
        whole = layout.frames_of(len(columns) + 1) >= wanted
        ended = _advance(slots, lambda: columns.append(slots.newest[0]), look=whole)
        if ended:
            (generation,) = ended.values()
            yield Chunk(generation.codes[:, given:], generation.reason)
            return
        if whole:
            codes = layout.from_columns(torch.stack(columns).cpu())
            yield Chunk(codes)
            given += codes.shape[1]
            del columns[: codes.shape[1] * layout.columns_per_frame]
            wanted = frames


def _advance(slots: Slots, on_column: Callable[[], object] | None = None, look: bool = False) -> dict[int, Generation]:
    """One more column of every row; the rows that have ended, if it is time for a look or one is asked for."""
    slots.draw()
    if on_column is not None:
        on_column()
    ended = slots.ended() if look or slots.may_have_ended else {}
    if slots.speaking:
        slots.feed()
    return ended


def _shrunk(slots: Slots, places: list[int]) -> list[int]:
    """Give up free slots, where that is worth it; the places of those that are left."""
    speaking = slots.speaking
    if slots.captured or not speaking or len(speaking) > SHRINK_AT * len(places):
        return places
    slots.shrink()
    return [places[row] for row in speaking]


def _batch(decoder: Decoder, requests: Sequence[Request], prefix_length: int | None = None) -> ConditionedBatch:
    backbone = decoder.backbone
    given = [request.conditioning for request in requests]
    return make_batch(backbone.conditioner, backbone.layout, given, prefix_length=prefix_length)
