"""Compares wand's ring with transformers' growing cache in the same body: ``python -m benchmarks.stock_cache``.

It times one forward of one column, with a released model's dimensions and random weights, without head and sampling.
The variants are transformers' body with its own attention and `DynamicCache`, the same body with wand's ring, and the
lean body with the ring. Times are medians; the variants alternate. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.processor import machine
from wand.attention import AttentionWindow
from wand.attention.interface import ATTENTION_NAME
from wand.benchmark.cost import filled_cache, interleaved_milliseconds
from wand.benchmark.paths import GENERATE, MeasuredSystem, make_cache
from wand.benchmark.shapes import SHAPES
from wand.console.tables import markdown
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.lean.body import LeanBody
from wand.model.backbone import Backbone

NAMES = ("DynamicCache", "ring", "lean")


def _ring(backbone: Backbone, prefix: int, columns: int, window: int) -> PrefixWindowCache:
    """The cache under a window after a number of speech columns."""
    cache = filled_cache(backbone, prefix, columns, AttentionWindow(window))
    assert isinstance(cache, PrefixWindowCache)
    return cache


@torch.inference_mode()
def measure(backbone: Backbone, window: int, prefix: int, columns: int, repeats: int) -> list[float]:
    """Milliseconds of a forward after a number of speech columns, in the order of `NAMES`."""
    config, dtype = backbone.decoder.config, backbone.dtype
    # The repeats append columns to the growing cache, but too few to matter.
    column = torch.randn(1, 1, config.hidden_size, dtype=dtype)
    body, lean = backbone.decoder, LeanBody(backbone.decoder)
    stock = make_cache(MeasuredSystem(AttentionWindow(), GENERATE), backbone, prefix, columns, 1)
    rings = [_ring(backbone, prefix, columns, window) for _ in range(2)]

    def forward_stock() -> None:
        body.set_attn_implementation("sdpa")
        body(inputs_embeds=column, past_key_values=stock, use_cache=True)
        body.set_attn_implementation(ATTENTION_NAME)

    def forward_ring(ring: PrefixWindowCache) -> None:
        body(
            inputs_embeds=column,
            position_ids=ring.positions[:, None].clone(),
            past_key_values=ring,
            use_cache=True,
            attention_context=ring.step_context(),
        )

    def forward_lean(ring: PrefixWindowCache) -> None:
        lean(column, ring.positions[:, None].clone(), ring, ring.step_context())

    calls: list[Callable[[], object]]
    calls = [forward_stock, partial(forward_ring, rings[0]), partial(forward_lean, rings[1])]
    return interleaved_milliseconds(calls, torch.device("cpu"), repeats, warmup=3, budget=60.0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="cosyvoice2", help="model size (default: cosyvoice2)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="dtype of weights (default: bfloat16)"
    )
    parser.add_argument(
        "--columns",
        type=int,
        nargs="+",
        default=[50, 1500, 15_000],
        help="speech columns in the cache (default: 50 1500 15000)",
    )
    parser.add_argument("--repeats", type=int, default=20, help="timed rounds (default: 20)")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    print(
        f"{machine()}\n\n{shape.title}, {arguments.dtype}, prefix {shape.prefix}, window {shape.window}\n", flush=True
    )
    backbone = shape.build("cpu", getattr(torch, arguments.dtype))
    rows = []
    for columns in arguments.columns:
        times = measure(backbone, shape.window, shape.prefix, columns, arguments.repeats)
        ratios = [f"**{times[0] / other:.2f}x**" for other in times[1:]]
        rows.append([str(columns), *(f"{ms:.1f}" for ms in times), *ratios])
    titles = ["columns", *(f"{name} ms" for name in NAMES), "DynamicCache / ring", "DynamicCache / lean"]
    print(markdown(titles, rows))


if __name__ == "__main__":
    main()
