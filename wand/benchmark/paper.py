"""The efficiency columns of the paper's Table 1, compared with our own computation.

**KV cache.** We reproduce the paper's six figures to two decimals in MiB, for one utterance per model: P + G columns
under full attention and P + W under the window. IndexTTS is in float16, the others in float32.

**GFLOPs.** The paper does not say what it counts. The closest match is the attention alone (scores and weighted values)
over the spoken columns: ``4 * layers * heads * width * sum of the keys each of them sees`` (`wand.benchmark.counts`).
For IndexTTS, the (P, G) of the cache reproduce the paper's figures within 2 %. For the two Qwen2 models they do not.
There is, however, a prefix (`PublishedFigures.flops_prefix`) at which, with exactly 10 seconds of speech, full
attention and window both give half of the paper's figures: doubled, they match within 0.01 GFLOPs, and so does their
ratio, which the paper calls speed-up. We cannot explain the factor of two (heads of 128 instead of 64 would give it),
nor why the prefixes of the two columns differ. So both computations are shown.

The ratio is a ratio of attention FLOPs. At this length, attention is only a few percent of all multiplications, so the
time of a step changes much less. ``wand benchmark`` measures that time.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from wand.benchmark.counts import attention_flops_per_key, multiplied_weights, visible_keys_of_all
from wand.benchmark.shapes import SHAPES
from wand.kv_cache.sizes import kv_bytes

LEGEND = (
    "attention: scores and weighted values of the G spoken columns, at the lengths that reproduce the paper's cache; "
    "1 x or 2 x: the same at the lengths that reproduce its GFLOPs, doubled for the Qwen2 models (the paper does not "
    "say what it counts); all: with the products with weights. The paper's speed-up is the ratio of its GFLOPs."
)

Pair = tuple[float, float]
"""A figure under full attention and under the window."""


def cache_mib(config: PretrainedConfig, prefix: int, spoken: int, window: int, itemsize: int) -> Pair:
    """MiB of one row's cache, under full attention and under the window."""
    full, windowed = (kv_bytes(config, prefix + kept, itemsize) / 2**20 for kept in (spoken, window))
    return full, windowed


def attention_gflops(config: PretrainedConfig, prefix: int, spoken: int, window: int) -> Pair:
    """GFLOPs of the attention of all spoken columns, under full attention and under the window."""
    each = attention_flops_per_key(config)
    full, windowed = (each * visible_keys_of_all(prefix, spoken, size) / 1e9 for size in (None, window))
    return full, windowed


def paper_table() -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the table: computed and published figures of every released model."""
    titles = ["model", "figure", "P, G, W", "full", "window", "ratio", "paper: full", "window", "ratio"]
    lines = []
    for shape in SHAPES.values():
        published = shape.published
        backbone = shape.build("meta")
        config, window = backbone.decoder.config, shape.window
        own = (shape.prefix, published.spoken, window)
        fitted = (published.flops_prefix, published.flops_spoken, window)
        attention, fitting = attention_gflops(config, *own), attention_gflops(config, *fitted)
        matrices = 2 * multiplied_weights(backbone) * published.spoken / 1e9
        factor = published.factor
        figures: list[tuple[str, tuple[int, int, int], Pair, Pair | None]] = [
            ("KV MiB", own, cache_mib(config, *own, published.itemsize), published.kv_mib),
            ("attention GFLOPs", own, attention, published.gflops),
            (f"{factor} x attention", fitted, (factor * fitting[0], factor * fitting[1]), published.gflops),
            ("all GFLOPs", own, (attention[0] + matrices, attention[1] + matrices), None),
        ]
        for figure, lengths, computed, paper in figures:
            title = shape.title if figure == "KV MiB" else ""
            line = [title, figure, ", ".join(map(str, lengths)), *_printed(computed)]
            lines.append([*line, *(["-"] * 3 if paper is None else _printed(paper))])
    return titles, lines


def _printed(pair: Pair) -> list[str]:
    """Both figures and their ratio."""
    return [f"{value:.2f}" for value in (*pair, pair[0] / pair[1])]
