"""Whole decodes as loops over an engine: a batch, a list of requests, one speech as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from wand.decoding.decoder import Decoder
from wand.decoding.engine import Done, Engine, Generation, Request
from wand.decoding.stopping import StopReason, StopRules
from wand.model.batch import ConditionedBatch
from wand.model.sampling import Sampling


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
    engine = Engine(decoder, rows=len(batch), prefix_length=batch.prefix_length, rules=rules, sampling=sampling)
    own = list(range(len(batch))) if seeds is None else list(seeds)
    tickets = engine.begin(batch, own, [rules.max_columns] * len(batch))
    spoken = _all(engine, on_column)
    return [spoken[ticket] for ticket in tickets]


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
    """Speak any number of requests in a fixed number of rows: where one ends, the next begins.

    Args:
        decoder: The model, in eval mode, and its window.
        requests: What is wanted, begun in this order.
        rules: When to end beside the stop token.
        rows: Requests that are spoken at once, at most.
        sampling: How tokens are drawn; the backbone's own way by default.
        on_column: Called after every column.
        on_done: Called with the number of requests that are done.

    Returns:
        One `Generation` per request.
    """
    if not requests:
        return []
    longest = max(decoder.backbone.conditioner.length(request.conditioning) for request in requests)
    engine = Engine(decoder, rows=min(rows, len(requests)), prefix_length=longest, rules=rules, sampling=sampling)
    tickets = [engine.submit(request) for request in requests]
    spoken = _all(engine, on_column, on_done)
    return [spoken[ticket] for ticket in tickets]


def _all(
    engine: Engine, on_column: Callable[[], object] | None, on_done: Callable[[int], object] | None = None
) -> dict[int, Generation]:
    """Step until nothing is left; generations by ticket."""
    spoken: dict[int, Generation] = {}
    while engine.busy:
        ended = {event.ticket: event.generation for event in engine.step() if isinstance(event, Done)}
        if on_column is not None:
            on_column()
        if not ended:
            continue
        spoken |= ended
        if on_done is not None:
            on_done(len(spoken))
        if not engine.waiting:
            engine.shrink()
    return spoken


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
    request: Request,
    *,
    rules: StopRules,
    sampling: Sampling | None = None,
) -> Iterator[Chunk]:
    """One speech in parts, each as soon as it is there; the same codes as `generate` gives with this seed.

    Args:
        decoder: The model, in eval mode, and its window.
        request: What is wanted; its `parts` say how many frames come at a time.
        rules: When to end beside the stop token.
        sampling: How tokens are drawn; the backbone's own way by default.

    Yields:
        Parts; the last one, perhaps without a frame, tells why the speech ended.
    """
    length = decoder.backbone.conditioner.length(request.conditioning)
    engine = Engine(decoder, rows=1, prefix_length=length, rules=rules, sampling=sampling)
    engine.submit(request)
    given = 0
    while engine.busy:
        for event in engine.step():
            if isinstance(event, Done):
                yield Chunk(event.generation.codes[:, given:], event.generation.reason)
            else:
                yield Chunk(event.codes)
                given += event.codes.shape[1]
