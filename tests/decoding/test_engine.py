"""Many requests in few rows, and speech that is given as it comes: the same as each request alone."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, sharpened
from tests.decoding.test_generate import WINDOWS, speaker
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.engine import LOOK_EVERY, LOOK_EVERY_ELSEWHERE, Engine
from wand.decoding.generate import generate, generate_all, stream
from wand.decoding.requests import Done, Generation, Part, Request
from wand.decoding.rows import Rows
from wand.decoding.stopping import StopReason, StopRules
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.model.batch import Conditioning, make_batch
from wand.model.sampling import MASKED, RepetitionAware, Sampling

RULES = StopRules(max_columns=40, loop_columns=12)
TEXTS = ["a", "hello", "no", "well then", "so it is", "o", "and again"]
SAMPLINGS = {
    "plain": Sampling(),
    "penalised": Sampling(temperature=0.8, top_k=8, repetition_penalty=1.3, already_spoken=[3]),
    "repetition-aware": Sampling(top_p=0.9, repetition=RepetitionAware(4, 0.25)),
}


@dataclass(frozen=True)
class MinP(Sampling):
    """A rule as a user writes it: draw tokens that are at least `least` times as likely as the most likely one."""

    least: float = 0.1

    def filter(self, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(-1)
        return logits.masked_fill(probabilities < self.least * probabilities.amax(-1, keepdim=True), MASKED)


def requests(lm: EncodecLM) -> list[Request]:
    """Of different voices, lengths of prefix, seeds and bounds."""
    voices = [
        torch.randint(0, 16, (3, 3 + i % 3), generator=torch.Generator().manual_seed(i)) for i in range(len(TEXTS))
    ]
    return [
        Request(lm.conditioner(text, Reference(voice)), seed=40 + i, max_columns=9 + 5 * i if i % 2 else None)
        for i, (text, voice) in enumerate(zip(TEXTS, voices, strict=True))
    ]


def alone(lm: EncodecLM, request: Request, window: AttentionWindow, sampling: Sampling) -> Generation:
    batch = make_batch(lm.conditioner, lm.layout, [request.conditioning])
    rules = StopRules(request.max_columns or RULES.max_columns, loop_columns=RULES.loop_columns)
    (spoken,) = generate(Decoder(lm, window), batch, rules=rules, sampling=sampling, seeds=[request.seed])
    return spoken


@pytest.mark.parametrize("rows", [1, 2, 3, 20])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_every_request_is_spoken_as_if_alone(monkeypatch, rows, window, sampling):
    monkeypatch.setattr("wand.decoding.engine.FORGET_AFTER", 5)
    lm = speaker()
    wanted = requests(lm)
    done: list[int] = []
    spoken = generate_all(Decoder(lm, window), wanted, rules=RULES, rows=rows, sampling=sampling, on_done=done.append)
    for request, own in zip(wanted, spoken, strict=True):
        expected = alone(lm, request, window, sampling)
        assert torch.equal(own.codes, expected.codes)
        assert own.reason == expected.reason
    assert done[-1] == len(wanted)
    assert len({own.codes.shape[1] for own in spoken}) > 2, "they end at different columns"


def test_nothing_wanted_nothing_spoken():
    assert generate_all(Decoder(speaker(), AttentionWindow(4)), [], rules=RULES, rows=3) == []


def test_learned_positions_do_not_run_out():
    """A row that is free goes on stepping beside others; it must not step beyond the model's positions."""
    lm = speaker()
    lm.max_speech_tokens = 12
    offsets: list[Tensor] = []
    embed = lm.embed_speech

    def watched(columns: Tensor, offset: Tensor) -> Tensor:
        offsets.append(offset.clone())
        return embed(columns, offset)

    lm.embed_speech = watched  # type: ignore[method-assign]
    wanted = [Request(lm.conditioner("a", Reference(torch.zeros(3, 3, dtype=torch.long))), seed=i) for i in range(9)]
    spoken = generate_all(Decoder(lm, AttentionWindow(4)), wanted, rules=RULES, rows=4)
    assert {len(own.columns) for own in spoken} <= set(range(13))
    assert max(int(offset.max()) for offset in offsets) < 12


@pytest.mark.parametrize(("first", "frames"), [(1, 1), (4, 7), (100, 3)])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_stream_says_what_generate_says(first, frames, window):
    lm = speaker()
    for request in requests(lm)[:3]:
        parts = list(
            stream(Decoder(lm, window), Request(request.conditioning, request.seed, parts=(first, frames)), rules=RULES)
        )
        plain = Request(request.conditioning, request.seed)
        expected = alone(lm, plain, window, lm.sampling)
        assert torch.equal(torch.cat([part.codes for part in parts], dim=1), expected.codes)
        assert [part.reason for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1].reason == expected.reason
        sizes = [part.codes.shape[1] for part in parts[:-1]]
        assert sizes == ([first] + [frames] * len(sizes))[: len(sizes)]


def test_a_stream_may_end_right_after_a_part():
    """With one codebook, nothing is left when the stop token comes."""
    torch.manual_seed(0)
    lm = sharpened(EncodecLM(architecture=replace(TINY, num_codebooks=1))).eval()
    given = lm.conditioner("hello", Reference(torch.zeros(1, 4, dtype=torch.long)))
    ends = set()
    for seed in range(8):
        *parts, last = stream(Decoder(lm, AttentionWindow(4)), Request(given, seed, parts=(1, 1)), rules=RULES)
        assert {part.codes.shape for part in parts} <= {(1, 1)}
        ends.add((last.reason, last.codes.shape[1]))
    assert (StopReason.STOP_TOKEN, 0) in ends


def test_a_stream_comes_while_it_is_spoken():
    lm = speaker(1, 2)
    conditioning: Conditioning = requests(lm)[0].conditioning
    parts = stream(Decoder(lm, AttentionWindow(4)), Request(conditioning, parts=(5, 25)), rules=StopRules(10**6))
    assert next(parts).codes.shape == (3, 5)
    assert next(parts).reason is None


def test_limits_end_with_their_reason():
    lm = speaker(1, 2)
    wanted = [Request(requests(lm)[i].conditioning, max_columns=limit) for i, limit in enumerate([5, 19, 8])]
    spoken = generate_all(Decoder(lm, AttentionWindow(4)), wanted, rules=StopRules(100), rows=2)
    assert [len(own.columns) for own in spoken] == [5, 19, 8]
    assert {own.reason for own in spoken} == {StopReason.LENGTH}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_what_a_captured_step_is_warmed_up_with_leaves_no_trace(sampling):
    """Steps before a capture change nothing but what `state` lists; keys and values are written again."""
    lm = speaker()
    request = requests(lm)[3]
    batch = make_batch(lm.conditioner, lm.layout, [request.conditioning])

    warmed, fresh = (Rows(Decoder(lm, WINDOWS["window"]), batch, [5], sampling) for _ in range(2))
    state = warmed.state()
    kept = [tensor.clone() for tensor in state]
    with torch.inference_mode():
        for _ in range(3):
            warmed._draw()
            warmed._feed()
        assert [id(tensor) for tensor in warmed.state()] == [id(tensor) for tensor in state]
        for tensor, value in zip(state, kept, strict=True):
            tensor.copy_(value)
    for _ in range(15):
        assert torch.equal(warmed.draw(), fresh.draw())
        warmed.feed()
        fresh.feed()


@pytest.mark.parametrize("allowed", [(), (1, 2)], ids=["free", "silent"])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_late_looks_change_nothing(monkeypatch, allowed, window):
    lm = speaker(*allowed)
    wanted = [Request(one.conditioning, one.seed, 3 + 7 * i) for i, one in enumerate(requests(lm))]
    rules = StopRules(60, loop_columns=12, silence_columns=5, silent_tokens=frozenset(allowed))
    expected = generate_all(Decoder(lm, window), wanted, rules=rules, rows=3)
    monkeypatch.setitem(LOOK_EVERY, "cpu", LOOK_EVERY_ELSEWHERE)  # as on a GPU
    late = generate_all(Decoder(lm, window), wanted, rules=rules, rows=3)
    for one, other in zip(late, expected, strict=True):
        assert torch.equal(one.codes, other.codes)
        assert one.reason == other.reason
    # A row that began beside others is judged in turns of its own.
    assert ({one.reason for one in late} == {StopReason.LENGTH, StopReason.SILENCE}) == bool(allowed)


@pytest.mark.parametrize(("first", "frames"), [(1, 1), (4, 7), (5, 3)])
def test_late_looks_let_nothing_beyond_the_end_into_a_stream(first, frames):
    lm = speaker()
    for request in requests(lm):
        expected = alone(lm, Request(request.conditioning, request.seed), AttentionWindow(4), lm.sampling)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(LOOK_EVERY, "cpu", LOOK_EVERY_ELSEWHERE)
            wanted = Request(request.conditioning, request.seed, parts=(first, frames))
            parts = stream(Decoder(lm, AttentionWindow(4)), wanted, rules=RULES)
            assert torch.equal(torch.cat([part.codes for part in parts], dim=1), expected.codes)


def test_memory_is_given_back_at_once():
    """Nothing of a decode waits for the garbage collector: caches are large."""
    decoder = Decoder(speaker(), AttentionWindow(4))

    def caches() -> int:
        return sum(type(thing) is PrefixWindowCache for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = caches()
        generate_all(decoder, requests(speaker())[:3], rules=RULES, rows=2)
        assert caches() == before
    finally:
        gc.enable()


class Journal:
    """What an engine gave, by ticket."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.parts: dict[int, list[Tensor]] = {}
        self.done: dict[int, Generation] = {}

    def step(self) -> None:
        for event in self.engine.step():
            if isinstance(event, Done):
                assert event.ticket not in self.done
                self.done[event.ticket] = event.generation
            else:
                assert isinstance(event, Part)
                self.parts.setdefault(event.ticket, []).append(event.codes)


@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_requests_that_arrive_while_others_speak(window, rows):
    """An engine that begins empty, with a longer prefix than any request: parts and whole speeches are those alone."""
    lm = speaker()
    wanted = requests(lm)
    longest = max(lm.conditioner.length(request.conditioning) for request in wanted)
    engine = Engine(Decoder(lm, window), rows=rows, prefix_length=longest + 3, rules=RULES)
    journal = Journal(engine)
    assert engine.step() == []
    assert not engine.busy
    tickets = {}
    for i, request in enumerate(wanted):
        sizes = (2, 3) if i % 2 else None
        own = Request(request.conditioning, request.seed, request.max_columns, sizes)
        tickets[engine.submit(own)] = i
        for _ in range(3 * i % 7):
            journal.step()
    while engine.busy:
        journal.step()
    assert engine.step() == []
    assert journal.parts.keys() <= {ticket for ticket, i in tickets.items() if i % 2}
    for ticket, i in tickets.items():
        expected = alone(lm, wanted[i], window, lm.sampling)
        spoken = torch.cat([*journal.parts.get(ticket, []), journal.done[ticket].codes], dim=1)
        assert torch.equal(spoken, expected.codes)
        assert journal.done[ticket].reason == expected.reason
    again = engine.submit(wanted[0])
    while engine.busy:
        journal.step()
    assert torch.equal(journal.done[again].codes, alone(lm, wanted[0], window, lm.sampling).codes)


def test_a_request_that_is_cancelled_leaves_its_row_to_another():
    lm = speaker(1, 2)  # speaks for ever
    wanted = requests(lm)[:4]
    longest = max(lm.conditioner.length(request.conditioning) for request in wanted)
    engine = Engine(Decoder(lm, AttentionWindow(4)), rows=2, prefix_length=longest, rules=StopRules(30))
    tickets = [engine.submit(Request(request.conditioning, request.seed)) for request in wanted]
    journal = Journal(engine)
    for _ in range(5):
        journal.step()
    engine.cancel(tickets[0])  # is spoken
    engine.cancel(tickets[2])  # waits
    while engine.busy:
        journal.step()
    assert journal.done.keys() == {tickets[1], tickets[3]}
    for i in (1, 3):
        batch = make_batch(lm.conditioner, lm.layout, [wanted[i].conditioning])
        (expected,) = generate(Decoder(lm, AttentionWindow(4)), batch, rules=StopRules(30), seeds=[wanted[i].seed])
        assert torch.equal(journal.done[tickets[i]].codes, expected.codes)


def test_what_does_not_fit_an_engine_is_refused():
    lm = speaker()
    request = requests(lm)[0]
    length = lm.conditioner.length(request.conditioning)
    engine = Engine(Decoder(lm, AttentionWindow(4)), rows=1, prefix_length=length - 1, rules=RULES)
    with pytest.raises(ValueError, match=f"takes {length} columns, the engine has {length - 1}"):
        engine.submit(request)
    with pytest.raises(ValueError, match="rows 0"):
        Engine(Decoder(lm, AttentionWindow(4)), rows=0, prefix_length=3, rules=RULES)


def test_a_sampling_rule_from_outside():
    lm = speaker(1, 2, 3)
    texts, voice = TEXTS[:3], Reference(torch.zeros(3, 3, dtype=torch.long))

    def spoken(sampling: Sampling) -> list[Tensor]:
        batch = make_batch(lm.conditioner, lm.layout, [lm.conditioner(text, voice) for text in texts])
        decoder = Decoder(lm, AttentionWindow(4))
        return [one.codes for one in generate(decoder, batch, rules=StopRules(40), sampling=sampling)]

    free, greedy = spoken(Sampling()), spoken(Sampling(temperature=0))
    some, strict = spoken(MinP(least=0.3)), spoken(MinP(least=1.0))
    assert all(torch.equal(own, expected) for own, expected in zip(strict, greedy, strict=True))
    assert not any(torch.equal(own, other) for own, other in zip(some, free, strict=True))
    assert not any(torch.equal(own, other) for own, other in zip(some, greedy, strict=True))


def test_the_bound_of_a_request_counts_not_that_of_the_rules() -> None:
    lm = speaker(3, 5, 7)
    conditioning = lm.conditioner("so it is", Reference(torch.zeros(3, 3, dtype=torch.long)))
    rules = StopRules(max_columns=10, loop_columns=40)
    engine = Engine(Decoder(lm, AttentionWindow(4)), rows=1, prefix_length=60, rules=rules)
    for wrong in (-1, 0):
        with pytest.raises(ValueError, match=f"max_columns of a request {wrong} is not positive"):
            engine.submit(Request(conditioning, max_columns=wrong))
    engine.submit(Request(conditioning, max_columns=50))
    generous = Engine(Decoder(lm, AttentionWindow(4)), rows=1, prefix_length=60, rules=replace(rules, max_columns=90))
    generous.submit(Request(conditioning, max_columns=50))
    (own,), (expected,) = ([event for _ in range(60) for event in one.step()] for one in (engine, generous))
    assert isinstance(own, Done)
    assert isinstance(expected, Done)
    assert torch.equal(own.generation.columns, expected.generation.columns)
    assert own.generation.reason == expected.generation.reason
    assert len(own.generation.columns) > 16
