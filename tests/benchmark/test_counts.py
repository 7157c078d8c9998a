"""FLOPs, keys and bytes that are counted are those of a step; the paper's figures come out of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmark.tiny_shapes import tiny_shape
from wand.attention import AttentionContext, AttentionWindow
from wand.attention.reference import attention_logit_offset
from wand.benchmark.cost import filled_cache
from wand.benchmark.counts import (
    attention_flops_per_key,
    step_flops,
    visible_keys,
    visible_keys_of_all,
    weight_bytes,
)
from wand.benchmark.paper import attention_gflops, cache_mib, paper_table
from wand.benchmark.paths import MeasuredSystem
from wand.benchmark.shapes import SHAPES
from wand.decoding.decoder import Body, Decoder
from wand.model.backbone import Backbone


@pytest.fixture(params=list(SHAPES))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return tiny_shape(request.param).build("cpu")


@pytest.mark.parametrize("sizes", [None, 4, [4, 6]], ids=["full", "window", "by-layer"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("body", ["transformers", "lean"])
def test_flops_are_those_of_a_step(backbone: Backbone, sizes: int | list[int] | None, rows: int, body: Body) -> None:
    windows = backbone.windows(sizes)
    decoder = Decoder(backbone, windows, body)
    cache = filled_cache(backbone, prefix=7, columns=9, windows=windows, rows=rows)
    attention, total = step_flops(backbone, MeasuredSystem(windows, body).keys(backbone, 7, 9), rows)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        backbone.speech_head().logits(decoder.step(cache, torch.zeros(rows, 1, dtype=torch.long)))
    assert counter.get_total_flops() == total
    products = {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}
    assert sum(flops for name, flops in products.items() if "bmm" in name) == attention


@given(prefix=st.integers(1, 12), spoken=st.integers(1, 30), window=st.one_of(st.none(), st.integers(1, 40)))
def test_keys_are_those_that_the_definition_shows(prefix: int, spoken: int, window: int | None) -> None:
    def seen(column: int) -> int:
        offsets = (
            attention_logit_offset(column, key, start=0, boundary=prefix, window=AttentionWindow(window))
            for key in range(prefix + spoken)
        )
        return sum(offset is not None for offset in offsets)

    own = [visible_keys(prefix, before, window) for before in range(spoken)]
    assert own == [seen(prefix + before) for before in range(spoken)]
    assert visible_keys_of_all(prefix, spoken, window) == sum(own)


def test_bytes_are_of_what_a_step_uses(backbone: Backbone) -> None:
    """What the outputs of the body depend on, and the allowed rows of the head."""
    body = backbone.decoder.requires_grad_(True)
    columns = torch.arange(3)[None]
    output = body(
        inputs_embeds=torch.randn(1, 3, body.config.hidden_size),
        position_ids=columns,
        attention_context=AttentionContext(AttentionWindow(), 3),
    )
    output.last_hidden_state.sum().backward()
    used = sum(parameter.nbytes for parameter in body.parameters() if parameter.grad is not None)
    head = sum(part.nbytes for part in backbone.speech_head().weights)
    assert weight_bytes(backbone) == used + head
    assert weight_bytes(backbone.to(torch.bfloat16)) * 2 == used + head
    assert used + head > weight_bytes(backbone.float(), int8=True) > head


@pytest.mark.parametrize(("name", "millions"), [("cosyvoice2", 505.8), ("sparktts", 506.6), ("indextts", 583.0)])
def test_shapes_are_the_released_ones(name: str, millions: float) -> None:
    assert round(sum(p.numel() for p in SHAPES[name].build("meta").parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("name", SHAPES)
def test_the_papers_cache_to_two_decimals(name: str) -> None:
    shape, published = SHAPES[name], SHAPES[name].published
    config = shape.build("meta").decoder.config
    computed = cache_mib(config, shape.prefix, published.spoken, shape.window, published.itemsize)
    assert tuple(round(value, 2) for value in computed) == published.kv_mib


@pytest.mark.parametrize("name", SHAPES)
def test_the_papers_flops_within_a_hundredth(name: str) -> None:
    shape, published = SHAPES[name], SHAPES[name].published
    config = shape.build("meta").decoder.config
    computed = attention_gflops(config, published.flops_prefix, published.flops_spoken, shape.window)
    for own, printed in zip(computed, published.gflops, strict=True):
        assert published.factor * own == pytest.approx(printed, abs=0.0101)
    assert computed[0] / computed[1] == pytest.approx(published.gflops[0] / published.gflops[1], abs=0.005)


def test_indextts_flops_follow_from_its_cache() -> None:
    """Without any fitted length: each of the cache's G columns sees P and what was spoken."""
    config = SHAPES["indextts"].build("meta").decoder.config
    keys = [sum(79 + min(i + 1, size) for i in range(249)) for size in (249, 32)]
    assert [attention_flops_per_key(config) * n / 1e9 for n in keys] == pytest.approx([6.18, 3.28], rel=0.02)


def test_the_papers_table_holds_both_numbers() -> None:
    titles, lines = paper_table()
    assert all(len(line) == len(titles) for line in lines)
    by_figure = {(line[1], line[2]): line[3:] for line in lines}
    assert by_figure["KV MiB", "192, 255, 32"] == ["10.48", "5.25", "2.00"] * 2
    assert by_figure["attention GFLOPs", "241, 531, 64"][3:] == ["48.12", "31.74", "1.52"]
    assert by_figure["2 x attention", "143, 250, 32"] == ["11.55", "7.44", "1.55"] * 2
