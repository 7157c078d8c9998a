"""Loops over an engine that speak a batch, a list of requests, or one speech as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from wand.console.interrupt import raise_if_stopped
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Engine
from wand.decoding.requests import Done, Generation, Request
from wand.decoding.stopping import StopReason, StopRules
from wand.model.batch import ConditionedBatch
from wand.model.sampling import Sampling
from wand.passages.follower import SpokenWord
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules


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
        decoder: Decoder of a model in eval mode.
        batch: Conditioning of B rows, on any device. Its speech columns are not used.
        rules: When to end a speech that has no stop token.
        sampling: Sampling settings; those of the backbone by default.
        seeds: Random seed of each row; 0, 1, 2 ... by default. A row depends on its own seed and not on other rows.
        on_column: Called after every column, for progress bars.

    Returns:
        One `Generation` per row.
    """
    engine = Engine(decoder, rows=len(batch), prefix_length=batch.prefix_length, rules=rules, sampling=sampling)
    own = list(range(len(batch))) if seeds is None else list(seeds)
    tickets = engine.begin(batch, own, [rules.max_columns] * len(batch))
    spoken = {ticket: generation for ended in _endings(engine, on_column) for ticket, generation in ended.items()}
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
    """Speak any number of requests in a fixed number of rows. A row that has ended starts the next request.

    Args:
        decoder: Decoder of a model in eval mode.
        requests: The requests, started in this order.
        rules: When to end a speech that has no stop token.
        rows: Maximum number of requests that are spoken at the same time.
        sampling: Sampling settings; those of the backbone by default.
        on_column: Called after every column.
        on_done: Called with the number of finished requests whenever it changes.

    Returns:
        One `Generation` per request.
    """
    spoken: dict[int, Generation] = {}
    for ended in generate_each(decoder, requests, rules=rules, rows=rows, sampling=sampling, on_column=on_column):
        spoken |= ended
        if on_done is not None:
            on_done(len(spoken))
    return [spoken[i] for i in range(len(requests))]


def generate_each(
    decoder: Decoder,
    requests: Sequence[Request],
    *,
    rules: StopRules,
    rows: int,
    sampling: Sampling | None = None,
    on_column: Callable[[], object] | None = None,
) -> Iterator[dict[int, Generation]]:
    """Do the same as `generate_all`, and yield the generations that have just ended, by the number of their request."""
    if not requests:
        return
    engine = _engine_for(decoder, requests, min(rows, len(requests)), rules, sampling)
    numbers = {engine.submit(request): i for i, request in enumerate(requests)}
    for ended in _endings(engine, on_column):
        yield {numbers[ticket]: generation for ticket, generation in ended.items()}


def _engine_for(
    decoder: Decoder, requests: Sequence[Request], rows: int, rules: StopRules, sampling: Sampling | None
) -> Engine:
    """An engine for the longest prefix of some requests."""
    given = [request.conditioning for request in requests]
    texts = [one for one in given if isinstance(one, Passage)]
    windows = PassageRules.of(decoder.backbone, decoder.window) if texts else None
    lengths = [decoder.backbone.conditioner.length(one) for one in given if not isinstance(one, Passage)]
    lengths += [windows.prefix_length(text) for text in texts if windows]
    return Engine(decoder, rows=rows, prefix_length=max(lengths), rules=rules, sampling=sampling, passages=windows)


def _check_text_comes(engine: Engine) -> None:
    if engine.waits:
        raise ValueError("a passage waits for text that nobody adds: close it first, or give an iterator of its pieces")


def _endings(engine: Engine, on_column: Callable[[], object] | None) -> Iterator[dict[int, Generation]]:
    """Step until all requests are done. Yields the generations that end at a step, by ticket."""
    while engine.busy:
        raise_if_stopped()
        _check_text_comes(engine)
        ended = {event.ticket: event.generation for event in engine.step() if isinstance(event, Done)}
        if ended:
            yield ended
            if not engine.waiting:
                engine.shrink()
        if on_column is not None:
            on_column()


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A part of a streamed speech.

    Args:
        codes: ``[K, n]``, the newest complete frames.
        reason: Why the speech ended; None except in the last part.
        words: In the last part, all words of a passage.
    """

    codes: Tensor
    reason: StopReason | None = None
    words: tuple[SpokenWord, ...] = ()


def stream(
    decoder: Decoder,
    request: Request,
    *,
    rules: StopRules,
    sampling: Sampling | None = None,
) -> Iterator[Chunk]:
    """Speak one request and yield its codes in parts.

    The codes equal those of `generate` with the same seed, except where `generate` speaks a part of a passage again to
    repair a fault: what was yielded stays.

    Args:
        decoder: Decoder of a model in eval mode.
        request: The request; its `parts` give the number of frames of each part.
        rules: When to end a speech that has no stop token.
        sampling: Sampling settings; those of the backbone by default.

    Yields:
        Parts, each as soon as it is ready. The last one has the stop reason and may have no frames.
    """
    engine = _engine_for(decoder, [request], 1, rules, sampling)
    engine.submit(request)
    while engine.busy:
        _check_text_comes(engine)
        for event in engine.step():
            if isinstance(event, Done):
                yield Chunk(event.generation.codes, event.generation.reason, event.generation.words)
            else:
                yield Chunk(event.codes)
