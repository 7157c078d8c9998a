"""Many requests over few slots, and speech that is given as it comes: the same as each request alone."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from tests.decoding.test_generate import WINDOWS, speaker
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.conditioning import Conditioning, Reference, make_batch
from wand.decoding.cache import PrefixWindowCache
from wand.decoding.decoder import Decoder
from wand.decoding.generate import Request, generate, generate_all, stream
from wand.decoding.sampling import RepetitionAware, Sampling
from wand.decoding.slots import LOOK_EVERY, LOOK_EVERY_ELSEWHERE, Generation, Slots
from wand.decoding.stopping import StopReason, StopRules

RULES = StopRules(max_columns=40, loop_columns=12)
TEXTS = ["a", "hello", "no", "well then", "so it is", "o", "and again"]
SAMPLINGS = {
    "plain": Sampling(),
    "penalised": Sampling(temperature=0.8, top_k=8, repetition_penalty=1.3, already_spoken=[3]),
    "repetition-aware": Sampling(top_p=0.9, repetition=RepetitionAware(4, 0.25)),
}


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
    monkeypatch.setattr("wand.decoding.slots.FORGET_AFTER", 5)
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
    """A slot that is free goes on stepping beside others; it must not step beyond the model's positions."""
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
            stream(
                Decoder(lm, window),
                request.conditioning,
                rules=RULES,
                seed=request.seed,
                first_frames=first,
                frames=frames,
            )
        )
        plain = Request(request.conditioning, request.seed)
        expected = alone(lm, plain, window, lm.sampling)
        assert torch.equal(torch.cat([part.codes for part in parts], dim=1), expected.codes)
        assert [part.reason for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1].reason == expected.reason
        sizes = [part.codes.shape[1] for part in parts[:-1]]
        assert sizes == ([first] + [frames] * len(sizes))[: len(sizes)]


def test_a_stream_comes_while_it_is_spoken():
    lm = speaker(1, 2)
    conditioning: Conditioning = requests(lm)[0].conditioning
    parts = stream(Decoder(lm, AttentionWindow(4)), conditioning, rules=StopRules(10**6), first_frames=5)
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
    """Steps before a capture change nothing but what `_state` lists; keys and values are written again."""
    lm = speaker()
    request = requests(lm)[3]
    batch = make_batch(lm.conditioner, lm.layout, [request.conditioning])

    def slots() -> Slots:
        made = Decoder(lm, WINDOWS["window"])
        return Slots(made, batch, seeds=[5], limits=[40], rules=RULES, sampling=sampling)

    warmed, fresh = slots(), slots()
    state = warmed._state()
    kept = [tensor.clone() for tensor in state]
    with torch.inference_mode():
        for _ in range(3):
            warmed._draw()
            warmed._feed()
        assert [id(tensor) for tensor in warmed._state()] == [id(tensor) for tensor in state]
        for tensor, value in zip(state, kept, strict=True):
            tensor.copy_(value)
    for _ in range(15):
        warmed.draw()
        fresh.draw()
        assert torch.equal(warmed.newest, fresh.newest)
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
            parts = stream(
                Decoder(lm, AttentionWindow(4)),
                request.conditioning,
                rules=RULES,
                seed=request.seed,
                first_frames=first,
                frames=frames,
            )
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
