"""A prefix that begins as one before it gives the same speech, and only its rest is computed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TINY, sharpened
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.kv_cache.prefixes import FEWEST, KnownPrefix, PrefixMemory
from wand.model.batch import ConditionedBatch, make_batch

VOICES = [torch.arange(36).view(3, 12) % 16, torch.arange(36).flip(0).view(3, 12) % 16]


@pytest.fixture(scope="module")
def lm() -> EncodecLM:
    torch.manual_seed(0)
    lm = sharpened(EncodecLM(architecture=TINY)).eval()
    lm.conditioner = type(lm.conditioner)(lm.layout, "letters", lm.shape.symbols, 12)
    return lm


def batch_of(lm: EncodecLM, texts: list[str], voice: int = 0) -> ConditionedBatch:
    given_ = [lm.conditioner(text, Reference(VOICES[voice])) for text in texts]
    return make_batch(lm.conditioner, lm.layout, given_)


def computed_columns(lm: EncodecLM, decoder: Decoder, batch: ConditionedBatch) -> int:
    """How many columns the body was called with."""
    seen: list[int] = []
    hook = lm.decoder.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).shape[1]),
        with_kwargs=True,
    )
    decoder.prefill(batch)
    hook.remove()
    return sum(seen)


@pytest.mark.parametrize("body", ["transformers", "lean"])
def test_speech_after_a_known_beginning_is_the_same(lm, body):
    memory = PrefixMemory()
    known = Decoder(lm, AttentionWindow(4), body, memory=memory)
    known.prefill(batch_of(lm, ["the first text of all"]))
    later = batch_of(lm, ["a", "hello there", "a text"])
    fresh = Decoder(lm, AttentionWindow(4), body)
    columns = torch.randint(0, 16, (9, 3, 3))
    (logits, cache), (expected, own) = known.prefill(later), fresh.prefill(later)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert isinstance(cache, PrefixWindowCache)
    assert cache.loaded > 0
    for column in columns:
        torch.testing.assert_close(known.step(cache, column), fresh.step(own, column), atol=1e-4, rtol=1e-4)


def test_only_the_rest_is_computed(lm):
    decoder = Decoder(lm, AttentionWindow(4), "transformers", memory=PrefixMemory())
    first, second = batch_of(lm, ["the first"]), batch_of(lm, ["another text"])
    assert computed_columns(lm, decoder, first) == first.prefix_length
    # The voice (frames and the columns of the delay) and nothing of the text.
    assert computed_columns(lm, decoder, second) == second.prefix_length - 14
    assert computed_columns(lm, decoder, second) <= second.prefix_length - 14  # nothing new was remembered


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_prefix_gives_the_same_bits(lm: EncodecLM, dtype: torch.dtype) -> None:
    """Also in a batch of several rows, each with its own copy."""
    low = EncodecLM.from_architecture(lm.architecture()).eval().to(dtype)
    low.load_state_dict(lm.state_dict())
    low.conditioner = lm.conditioner
    decoder = Decoder(low, AttentionWindow(4), memory=PrefixMemory())
    hidden, cache = decoder.prefill(batch_of(low, ["the same text"]))
    columns = torch.randint(0, 16, (9, 1, 3))
    expected = [hidden, *(decoder.step(cache, column) for column in columns)]
    for rows in (1, 3):
        again, other = decoder.prefill(batch_of(low, ["the same text"] * rows))
        assert isinstance(other, PrefixWindowCache)
        assert other.loaded == other.prefix_length
        assert torch.equal(again, hidden.expand(rows, -1))
        steps = [decoder.step(other, column.expand(rows, -1)) for column in columns]
        if rows == 1:
            assert all(torch.equal(a, b) for a, b in zip([again, *steps], expected, strict=True))
        else:
            torch.testing.assert_close(steps[-1], expected[-1].expand(rows, -1), atol=2e-2, rtol=2e-2)


def test_voices_are_kept_apart_and_the_oldest_is_forgotten(lm):
    decoder = Decoder(lm, AttentionWindow(4), "transformers", memory=PrefixMemory(size=1))
    for voice in (0, 1, 0):
        batch = batch_of(lm, ["so it is"], voice)
        assert computed_columns(lm, decoder, batch) == batch.prefix_length
    mixed = [lm.conditioner("so it is", Reference(voice)) for voice in VOICES]
    batch = make_batch(lm.conditioner, lm.layout, mixed)
    assert computed_columns(lm, decoder, batch) == batch.prefix_length


def test_a_voice_that_begins_like_another_is_remembered_too(lm):
    decoder = Decoder(lm, AttentionWindow(4), "transformers", memory=PrefixMemory())
    alike = VOICES[0].clone()
    alike[:, 10:] = 3
    text = "a rather long text, so that the little which both voices share is a small part"
    decoder.prefill(batch_of(lm, [text]))

    def batch() -> ConditionedBatch:
        return make_batch(lm.conditioner, lm.layout, [lm.conditioner(text, Reference(alike))])

    assert computed_columns(lm, decoder, batch()) == batch().prefix_length - 10
    assert computed_columns(lm, decoder, batch()) == 0


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.lists(st.integers(0, 2), min_size=1, max_size=9))
def test_what_two_prefixes_have_in_common(first, second):
    known = KnownPrefix(torch.tensor(first).float()[:, None].expand(-1, 3), [], [], torch.zeros(3))
    expected = 0
    while expected < min(len(first), len(second)) and first[expected] == second[expected]:
        expected += 1
    assert known.common(torch.tensor(second).float()[:, None].expand(-1, 3)) == expected


def test_little_in_common_is_not_worth_it(lm):
    assert FEWEST > 1
    memory = PrefixMemory()
    decoder = Decoder(lm, AttentionWindow(4), memory=memory)
    decoder.prefill(batch_of(lm, ["so it is"]))
    embeds = lm.embed_prefix(batch_of(lm, ["so it is"]))
    changed = embeds.clone()
    changed[:, FEWEST - 1 :] += 1
    zero = torch.zeros(1, dtype=torch.long)
    assert memory.find(changed, zero) is None
    found = memory.find(embeds, zero)
    assert found is not None
    assert found[1] == embeds.shape[1]
    longer = memory.find(torch.cat([embeds, embeds[:, -1:]], dim=1), zero)
    assert longer is not None
    assert longer[1] == embeds.shape[1]
    shorter = memory.find(embeds[:, :-1], zero)
    assert shorter is not None
    assert shorter[1] == embeds.shape[1] - 2  # the known hidden state belongs to a longer prefix
