"""The ring beside transformers' own growing cache, in the same body: ``python -m benchmarks.stock_cache``.

One forward of one column, a released model's dimensions with random weights, no head and no sampling: the stock body
with stock attention and `DynamicCache`, the same body with wand's ring, the lean body with the ring. Variants take
turns; medians. Prints Markdown.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from benchmarks.processor import machine
from wand.attention.interface import ATTENTION_NAME
from wand.benchmark.cost import interleaved_milliseconds
from wand.benchmark.paths import GENERATE, LEAN, MeasuredSystem, make_cache
from wand.benchmark.shapes import SHAPES
from wand.console.tables import markdown
from wand.decoding.cache import PrefixWindowCache
from wand.decoding.lean import LeanBody
from wand.model.backbone import Backbone

NAMES = ("DynamicCache", "ring", "lean")


@torch.inference_mode()
def measure(backbone: Backbone, window: int, prefix: int, columns: int, repeats: int) -> list[float]:
    """Milliseconds of a forward after so many speech columns, in the order of `NAMES`."""
    config, dtype = backbone.decoder.config, backbone.dtype
    # What is appended to the stock cache in a few repeats changes nothing to speak of.
    column = torch.randn(1, 1, config.hidden_size, dtype=dtype)
    body, lean = backbone.decoder, LeanBody(backbone.decoder)
    stock = make_cache(MeasuredSystem(None, GENERATE), backbone, prefix, columns, 1)
    rings = [make_cache(MeasuredSystem(window, LEAN), backbone, prefix, columns, 1) for _ in range(2)]

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

    calls = [forward_stock, partial(forward_ring, rings[0]), partial(forward_lean, rings[1])]
    return interleaved_milliseconds(calls, torch.device("cpu"), repeats, warmup=3, budget=60.0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="cosyvoice2")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--columns", type=int, nargs="+", default=[50, 1500, 15_000])
    parser.add_argument("--repeats", type=int, default=20)
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
