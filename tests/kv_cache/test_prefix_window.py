"""What is in which slot, who sees it, and how many bytes it takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig

from wand.attention import AttentionContext, AttentionWindow
from wand.kv_cache.full import FullCache
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.kv_cache.sizes import key_value_shape, kv_bytes

CONFIG = LlamaConfig(
    hidden_size=12,
    intermediate_size=8,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=1,
    vocab_size=4,
)


def marked(columns: range | list[int], rows: int = 1) -> torch.Tensor:
    """Keys whose entries are the index of their column."""
    return torch.tensor(list(columns), dtype=torch.float32)[None, None, :, None].expand(rows, 1, -1, 4)


def feed(cache: PrefixWindowCache, columns: range | list[int], rows: int = 1) -> None:
    for layer in range(2):
        cache.update(marked(columns, rows) + 100 * layer, -marked(columns, rows), layer)


def filled(prefix: int, window: int, steps: int, start: int = 0) -> PrefixWindowCache:
    cache = PrefixWindowCache(CONFIG, prefix_length=prefix, window=window, starts=torch.tensor([start]))
    feed(cache, range(prefix))
    for step in range(steps):
        feed(cache, [prefix + step])
    return cache


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 23))
def test_slots_hold_the_prefix_and_the_newest_columns(prefix, window, steps):
    cache = filled(prefix, window, steps)
    for slot in range(prefix + window):
        held = [p for p in range(prefix + steps) if slot == (p if p < prefix else prefix + (p - prefix) % window)]
        expected = max(held, default=0)
        assert (cache.rings[0].keys[0, :, slot] == expected).all()
        assert (cache.rings[1].keys[0, :, slot] == expected + (100 if held else 0)).all()
        assert (cache.rings[0].values[0, :, slot] == -expected).all()


@given(st.integers(2, 4), st.integers(1, 5), st.integers(0, 23), st.integers(0, 1))
def test_a_step_sees_the_real_prefix_and_its_window(prefix, window, steps, start):
    cache = filled(prefix, window, steps, start)
    seen = cache.visible()[0]
    feed(cache, [prefix + steps])
    columns = cache.rings[0].keys[0, 0, seen, 0].int().tolist()
    newest = range(max(0, steps + 1 - window), steps + 1)
    assert sorted(columns) == [*range(start, prefix), *(prefix + i for i in newest)]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 7))
def test_attention_is_that_over_the_slots_that_each_row_sees(starts, window, steps):
    """Slots before all prefixes are not read: they hold NaN."""
    rows, prefix = len(starts), 5
    noise = torch.Generator().manual_seed(steps)
    cache = PrefixWindowCache(CONFIG, prefix_length=prefix, window=window, batch_size=rows, starts=torch.tensor(starts))
    for length in (prefix, *[1] * (steps + 1)):
        seen, context = cache.visible(), cache.step_context()
        for layer in range(2):
            key, value = (torch.randn(rows, 1, length, 4, generator=noise) for _ in range(2))
            keys, values = cache.update(key, value, layer)
    keys, values = keys.clone(), values.clone()
    keys[:, :, : min(starts)] = values[:, :, : min(starts)] = torch.nan
    query = torch.randn(rows, 3, 1, 4, generator=noise)
    found = context.attend(1, query, keys, values)
    for row in range(rows):
        own = keys[row, 0, seen[row]], values[row, 0, seen[row]]
        wanted = (query[row, :, 0] @ own[0].T / 2).softmax(-1) @ own[1]
        torch.testing.assert_close(found[row, 0], wanted)


def test_an_update_returns_the_prefix_alone_and_then_all_slots():
    cache = PrefixWindowCache(CONFIG, prefix_length=3, window=2)
    assert cache.update(marked(range(3)), marked(range(3)), 0)[0].shape[2] == 3
    cache.update(marked(range(3)), marked(range(3)), 1)
    assert cache.update(marked([3]), marked([3]), 0)[0].shape[2] == 5


def test_a_prefix_of_one_column():
    cache = filled(prefix=1, window=2, steps=3)
    assert cache.rings[0].keys[0, 0, :, 0].tolist() == [0, 3, 2]
    assert cache.positions.tolist() == [4]


def test_restart_touches_one_row_only():
    cache = PrefixWindowCache(CONFIG, prefix_length=2, window=3, batch_size=2)
    feed(cache, range(2), rows=2)
    for step in range(5):
        feed(cache, [2 + step], rows=2)
    before = [ring.keys[0].clone() for ring in cache.rings]
    new = PrefixWindowCache(CONFIG, prefix_length=2, window=3, starts=torch.tensor([1]))
    feed(new, [70, 71])
    cache.restart(torch.tensor([1]), new)
    assert cache.positions.tolist() == [7, 2]
    assert cache.starts.tolist() == [0, 1]
    assert cache.visible().tolist() == [[True] * 5, [False, True, True, False, False]]
    assert cache.rings[0].keys[1, 0, :2, 0].tolist() == [70, 71]
    for ring, untouched in zip(cache.rings, before, strict=True):
        assert torch.equal(ring.keys[0], untouched)


def test_restart_leaves_the_callers_starts_alone():
    starts = torch.tensor([0, 1])
    cache = PrefixWindowCache(CONFIG, prefix_length=2, window=3, batch_size=2, starts=starts)
    feed(cache, range(2), rows=2)
    cache.restart(torch.tensor([1]), filled(prefix=2, window=3, steps=0))
    assert starts.tolist() == [0, 1]


def test_a_cache_made_in_inference_mode_can_be_restarted_outside():
    with torch.inference_mode():
        cache = filled(prefix=2, window=3, steps=4)
    cache.restart(torch.tensor([0]), filled(prefix=2, window=3, steps=0))
    assert cache.positions.tolist() == [2]


def test_reset_makes_it_new():
    cache = filled(prefix=2, window=3, steps=9)
    cache.reset()
    assert cache.get_seq_length() == 0
    feed(cache, [5, 6])
    assert cache.rings[0].keys[0, 0, :, 0].tolist() == [5, 6, 0, 0, 0]


def test_bytes_never_change():
    cache = filled(prefix=2, window=3, steps=0)
    column = marked([1])
    at_step = {}
    for step in range(1, 10_001):
        for layer in range(2):
            cache.update(column, column, layer)
        if step in (10, 10_000):
            at_step[step] = cache.nbytes
    assert at_step[10] == at_step[10_000] == kv_bytes(CONFIG, columns=5)
    assert cache.get_seq_length() == 10_002


def test_bytes_are_those_of_the_tensors():
    cache = PrefixWindowCache(CONFIG, prefix_length=7, window=5, batch_size=3, dtype=torch.bfloat16)
    expected = sum(tensor.numel() * 2 for ring in cache.rings for tensor in (ring.keys, ring.values))
    assert cache.nbytes == expected == kv_bytes(CONFIG, columns=12, itemsize=2, rows=3)


def test_full_cache_grows_with_every_column():
    cache = FullCache(3)
    assert cache.nbytes == 0
    for columns in ([0, 1, 2], [3], [4]):
        for layer in range(2):
            cache.update(marked(columns), marked(columns), layer)
    assert cache.nbytes == kv_bytes(CONFIG, columns=5)
    assert cache.positions.tolist() == [5]


def test_full_cache_holds_what_it_was_given():
    cache, plain = FullCache(3), DynamicCache()
    for columns in (3, 1, 1, 1, 5, 1, 1):
        keys, values = torch.randn(2, 2, 3, columns, 4)
        own, expected = cache.update(keys, values, 0), plain.update(keys, values, 0)
        assert all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))


def test_full_cache_after_a_crop_a_new_order_and_a_reset():
    cache, plain = FullCache(3), DynamicCache()

    def both(columns: int) -> None:
        keys, values = torch.randn(2, 2, 3, columns, 4)
        own, expected = cache.update(keys, values, 0), plain.update(keys, values, 0)
        assert all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))

    both(4)
    for change in (lambda c: c.crop(-2), lambda c: c.batch_select_indices(torch.tensor([1, 0])), lambda c: c.reset()):
        change(cache)
        change(plain)
        both(1)
        both(1)


def test_shape_comes_from_the_config(body):
    layers, groups, width = key_value_shape(body.config)
    assert layers == 2
    keys = (
        body(
            inputs_embeds=torch.randn(1, 3, body.config.hidden_size),
            use_cache=True,
            past_key_values=FullCache(3),
            attention_context=AttentionContext(AttentionWindow(), 3),
        )
        .past_key_values.layers[0]
        .keys
    )
    assert keys.shape == (1, groups, 3, width)


@pytest.mark.parametrize(
    ("steps", "columns"),
    [(0, [2, 3]), (4, [6, 7]), (4, [0, 1])],
    ids=["after-prefix", "later", "prefix-again"],
)
def test_two_columns_at_once_are_refused(steps, columns):
    with pytest.raises(ValueError, match="every later one a single column"):
        feed(filled(prefix=2, window=3, steps=steps), columns)


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_a_first_call_that_is_not_the_prefix_is_refused(columns):
    with pytest.raises(ValueError, match="whole prefix of 3 columns"):
        feed(PrefixWindowCache(CONFIG, prefix_length=3, window=2), range(columns))


def test_beams_are_refused():
    with pytest.raises(ValueError, match="beam search"):
        filled(prefix=2, window=3, steps=4).reorder_cache(torch.tensor([0]))


def test_a_restart_with_another_prefix_length_is_refused():
    with pytest.raises(ValueError, match="2 prefix slots"):
        filled(prefix=2, window=3, steps=1).restart(torch.tensor([0]), filled(prefix=3, window=3, steps=0))


@pytest.mark.parametrize("name", ["prefix_length", "window", "batch_size"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} 0"):
        PrefixWindowCache(CONFIG, **{"prefix_length": 2, "window": 2, name: 0})


@torch.no_grad()
@pytest.mark.parametrize("garbage", [1e4, -1e4])
def test_slots_that_hold_nothing_are_never_seen(body, garbage):
    """Whatever lies in unused slots, a decode gives the same."""
    embeds, starts = torch.randn(2, 6 + 9, body.config.hidden_size), torch.tensor([0, 2])

    def decode(filling: float) -> torch.Tensor:
        cache = PrefixWindowCache(body.config, prefix_length=6, window=5, batch_size=2, starts=starts)
        for ring in cache.rings:
            ring.keys.fill_(filling)
            ring.values.fill_(filling)
        context = AttentionContext(AttentionWindow(), 6, starts)
        outputs = []
        for first, last in [(0, 6), *((column, column + 1) for column in range(6, 15))]:
            positions = (torch.arange(first, last) - starts[:, None]).clamp(min=0)
            output = body(
                inputs_embeds=embeds[:, first:last],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                attention_context=context,
            )
            outputs.append(output.last_hidden_state[:, -1])
            context = cache.step_context()
        return torch.stack(outputs)

    torch.testing.assert_close(decode(garbage), decode(0.0))


def test_a_cache_larger_than_the_memory_is_refused(body):
    with pytest.raises(ValueError, match=r"window 10000000000 needs a cache of \d+ GiB .*: give a smaller window"):
        PrefixWindowCache(body.config, prefix_length=4, window=10**10)
