"""Bytes that are told are bytes that a decode takes."""

from __future__ import annotations

import pytest
import torch

from wand.attention import AttentionWindow
from wand.benchmark.cost import cache_bytes, step_milliseconds
from wand.decoding.decoder import Decoder


@torch.no_grad()
def bytes_after(lm, batch, window: AttentionWindow) -> int:
    decoder = Decoder(lm, window)
    _, cache = decoder.prefill(batch)
    for step in range(batch.columns.shape[1]):
        decoder.step(cache, batch.columns[:, step])
    return cache.nbytes


@pytest.mark.parametrize("frames", [10, 25])
@pytest.mark.parametrize("size", [None, 4, 9], ids=lambda size: f"window-{size}")
def test_bytes_of_a_decode(tiny_lm, random_batch, size, frames):
    batch = random_batch(tiny_lm, ("hello",), frames)
    seconds = frames / tiny_lm.frame_rate
    told = cache_bytes(tiny_lm, batch.prefix_length, seconds, AttentionWindow(size))
    assert bytes_after(tiny_lm, batch, AttentionWindow(size)) == told


def test_bytes_follow_the_precision(tiny_lm):
    single = cache_bytes(tiny_lm, 10, 1.0, AttentionWindow(8))
    assert cache_bytes(tiny_lm.to(torch.bfloat16), 10, 1.0, AttentionWindow(8)) * 2 == single


def test_full_attention_grows_with_the_speech_and_the_window_does_not(tiny_lm):
    full = [cache_bytes(tiny_lm, 10, seconds, AttentionWindow()) for seconds in (1, 2, 3)]
    assert full[2] - full[1] == full[1] - full[0] > 0
    assert len({cache_bytes(tiny_lm, 10, seconds, AttentionWindow(8)) for seconds in (1, 2, 3)}) == 1


def test_a_time_for_every_window(tiny_lm):
    before = {name: tensor.clone() for name, tensor in tiny_lm.state_dict().items()}
    times = step_milliseconds(
        tiny_lm, prefix=7, columns=20, windows=[AttentionWindow(), AttentionWindow(4)], repeats=2, warmup=1
    )
    assert len(times) == 2
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny_lm.state_dict().items())
