"""The efficiency columns of the paper's Table 1, and what comes out when they are computed.

**KV cache.** The paper's six figures come out to two decimals in MiB, for one utterance a model: P + G columns under
full attention, P + W under the window; IndexTTS in float16, the others in float32.

**GFLOPs.** The paper does not say what is counted. What comes out closest is the attention alone, scores and weighted
values, over the columns that are spoken: ``4 * layers * heads * width * sum of the keys each of them sees``
(`wand.benchmark.counts`). For IndexTTS the cache's own (P, G) give it within 2 %. For the two Qwen2 models
they do not; there a prefix can be found (`PublishedFigures.flops_prefix`) at which, with exactly 10 seconds of speech,
full attention and window both come out at half the paper's figures, within 0.01 GFLOPs once doubled, and with them the
ratio, which the paper calls speed-up. We can explain neither the factor of two (heads of 128 instead of 64 would give
it) nor why the prefixes of the two columns differ; so both computations are shown.

The ratio is one of attention. Of all that is multiplied, attention is a few percent at this length, and the time of a
step moves accordingly: that is what ``wand benchmark`` measures.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from wand.benchmark.counts import attention_flops_per_key, multiplied_weights, visible_keys_of_all
from wand.benchmark.shapes import SHAPES
from wand.decoding.cache import kv_bytes

LEGEND = (
    "attention: scores and weighted values of the G spoken columns, at the lengths from which the paper's cache "
    "follows; 1 x or 2 x: at those from which its GFLOPs follow, for the Qwen2 models twice (the paper does not say "
    "what it counts); all: the products with weights too. The paper's speed-up is the ratio of its GFLOPs."
)

Pair = tuple[float, float]
"""Full attention and window."""


def cache_mib(config: PretrainedConfig, prefix: int, spoken: int, window: int, itemsize: int) -> Pair:
    """MiB of one row's cache, full attention and window."""
    full, windowed = (kv_bytes(config, prefix + kept, itemsize) / 2**20 for kept in (spoken, window))
    return full, windowed


def attention_gflops(config: PretrainedConfig, prefix: int, spoken: int, window: int) -> Pair:
    """GFLOPs of the attention of all spoken columns, full attention and window."""
    each = attention_flops_per_key(config)
    full, windowed = (each * visible_keys_of_all(prefix, spoken, size) / 1e9 for size in (None, window))
    return full, windowed


def paper_table() -> tuple[list[str], list[list[str]]]:
    """Titles and lines: computed beside published, of every released model."""
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
    """Both and their ratio."""
    return [f"{value:.2f}" for value in (*pair, pair[0] / pair[1])]
