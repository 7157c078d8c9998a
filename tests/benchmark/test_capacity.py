"""The streams that fit on a card, against arithmetic by hand and against the bytes of real caches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wand.attention import AttentionWindow, resolve_windows
from wand.attention.body import KeyValueShape
from wand.benchmark.capacity import Card, ModelSize, capacity, paged_columns
from wand.kv_cache.full import FullCache
from wand.kv_cache.prefix_window import PrefixWindowCache

# Qwen2-0.5B: 24 layers, 2 key/value heads of 64, 494,032,768 weights. CosyVoice 2 speaks 25 columns a second.
QWEN = ModelSize("Qwen2-0.5B", "bfloat16", KeyValueShape(24, 2, 64, 64), 2, 2 * 494_032_768, 25.0)
CARD = Card(80 * 2**30, 0.9, 16, 192)


def test_by_hand() -> None:
    """A column takes 24 * 2 * (64 + 64) * 2 = 12,288 bytes."""
    found = capacity(QWEN, CARD, AttentionWindow(32), [10, 600])
    assert found.cache_bytes == 77_309_411_328 - 988_065_536 == 76_321_345_792
    short, long = found.lines
    assert (short.columns, long.columns) == (250, 15_000)
    assert (short.full.bytes, short.full.streams) == (442 * 12_288, 14_052)
    assert (long.full.bytes, long.full.streams) == (15_192 * 12_288, 408)
    assert (short.window.bytes, short.window.streams) == (224 * 12_288, 27_727)
    assert long.window == short.window
    # Blocks of 16: ceil(442 / 16) = 28, ceil(15192 / 16) = 950; 12 for the prefix, 2 for the window, and one more.
    assert (short.paged_full.bytes, long.paged_full.bytes) == (28 * 16 * 12_288, 950 * 16 * 12_288)
    assert (short.paged_window.bytes, short.paged_window.streams) == (15 * 16 * 12_288, 25_879)
    assert long.paged_window == short.paged_window


def test_windows_by_layer_are_summed() -> None:
    windows = resolve_windows({"default": 32, "layers": {0: 64, 1: 40}}, 24)
    (line,) = capacity(QWEN, CARD, windows, [60]).lines
    assert line.window.bytes == (24 * 192 + 64 + 40 + 22 * 32) * 512
    assert line.paged_window.bytes == (24 * 12 + (4 + 1) + (3 + 1) + 22 * (2 + 1)) * 16 * 512


@pytest.mark.parametrize(("prefix", "window"), [(5, 32), (32, 32), (33, 40), (131, 14)])
def test_blocks_hold_the_prefix_and_every_place_of_the_window(prefix: int, window: int) -> None:
    """The most blocks of 32 that hold a column which the newest one sees, over a long speech."""
    held = max(
        len({column // 32 for column in (*range(prefix), *range(max(prefix, newest - window + 1), newest + 1))})
        for newest in range(prefix, prefix + 400)
    )
    assert held <= paged_columns(prefix, 400, window, 32) // 32 <= held + 1
    assert paged_columns(prefix, 400, None, 32) == -(-(prefix + 400) // 32) * 32
    assert paged_columns(prefix, 3, 10_000, 32) == paged_columns(prefix, 3, None, 32)


@pytest.mark.parametrize("window", [6, [4, 9]], ids=["one window", "windows by layer"])
def test_bytes_are_those_of_the_caches(tiny_lm, window: int | list[int]) -> None:
    windows = tiny_lm.windows(window)
    size = ModelSize.of("tiny", tiny_lm)
    (line,) = capacity(size, replace(CARD, prefix=7), windows, [0.5]).lines
    ring = PrefixWindowCache(tiny_lm.key_value_shape, prefix_length=7, window=window, dtype=tiny_lm.dtype)
    assert line.window.bytes == ring.nbytes
    layers, groups, *widths = tiny_lm.key_value_shape
    full = FullCache(7)
    for layer in range(layers):
        full.update(*(torch.zeros(1, groups, 7 + line.columns, width) for width in widths), layer)
    assert line.full.bytes == full.nbytes
    assert size.weight_bytes == sum(tensor.nbytes for tensor in tiny_lm.state_dict().values())


def test_lengths_that_the_model_cannot_speak_are_left_out() -> None:
    found = capacity(replace(QWEN, max_columns=600), CARD, AttentionWindow(32), [10, 30])
    assert [line.seconds for line in found.lines] == [10]


def test_a_card_without_room_for_a_cache() -> None:
    with pytest.raises(ValueError, match=r"Qwen2-0.5B take 0.92 of 0.90 GiB"):
        capacity(QWEN, replace(CARD, memory=2**30), AttentionWindow(32), [10])
