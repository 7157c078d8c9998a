"""Compares band and dense attention in training, forward and backward: ``python -m benchmarks.attention``.

Times are medians of processor time for one row on one thread; the variants alternate. "dense" is scaled-dot-product
attention with a mask over all columns, which is made once and not timed. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.processor import dtype_name, machine, processor_seconds
from wand.attention import AttentionContext, AttentionWindow
from wand.console.tables import markdown


class Heads(NamedTuple):
    """Number of query heads, number of key/value heads, and their width."""

    query: int
    key: int
    width: int

    def __str__(self) -> str:
        return f"{self.query}/{self.key} x {self.width}"


HEADS = (Heads(14, 2, 64), Heads(20, 20, 64))
DTYPES = (torch.float32, torch.bfloat16)


def forward_backward(context: AttentionContext, tensors: Sequence[Tensor], weights: Tensor) -> None:
    """One call and its gradients."""
    query, key, value = tensors
    torch.autograd.grad(context.attend(0, query, key, value), tensors, weights)


def seconds(
    contexts: dict[str, AttentionContext], heads: Heads, dtype: torch.dtype, columns: int, repeats: int
) -> dict[str, float]:
    """Processor seconds of each context on the same random queries, keys and values."""
    # The memory layout of transformers' decoders.
    tensors = [
        torch.randn(1, columns, count, heads.width, dtype=dtype).transpose(1, 2).requires_grad_()
        for count in (heads.query, heads.key, heads.key)
    ]
    weights = torch.randn(1, columns, heads.query, heads.width, dtype=dtype)
    calls = {name: partial(forward_backward, context, tensors, weights) for name, context in contexts.items()}
    return processor_seconds(calls, repeats)


def lengths_table(prefix: int, window: int, lengths: Sequence[int], repeats: int) -> str:
    """Times of the band kernel and of a soft mask, by length."""
    rows = []
    for heads in HEADS:
        for dtype in DTYPES:
            for columns in lengths:
                contexts = {
                    "dense": AttentionContext(AttentionWindow(window), prefix, kernel="dense"),
                    "band": AttentionContext(AttentionWindow(window), prefix, kernel="band"),
                    "soft": AttentionContext(AttentionWindow(window, 2.0), prefix),
                    "causal": AttentionContext(AttentionWindow(), prefix),
                }
                took = seconds(contexts, heads, dtype, columns, repeats)
                times = [f"{1000 * took[name]:.1f}" for name in contexts]
                ratios = [f"**{took['dense'] / took['band']:.2f}x**", f"{took['soft'] / took['band']:.2f}x"]
                rows.append([str(heads), dtype_name(dtype), str(columns), *times, *ratios])
    titles = ["heads", "dtype", "S", "dense ms", "band ms", "soft ms", "causal ms", "dense / band", "soft / band"]
    return markdown(titles, rows)


def choices_table(prefix: int, window: int, lengths: Sequence[int], repeats: int) -> str:
    """The automatically chosen kernel compared with dense, for short sequences."""
    contexts = {
        "dense": AttentionContext(AttentionWindow(window), prefix, kernel="dense"),
        "auto": AttentionContext(AttentionWindow(window), prefix),
    }
    rows = []
    for heads in HEADS:
        for dtype in DTYPES:
            ratios = []
            for columns in lengths:
                took = seconds(contexts, heads, dtype, columns, repeats)
                ratios.append(f"{took['dense'] / took['auto']:.2f}x")
            rows.append([str(heads), dtype_name(dtype), *ratios])
    return markdown(["dense / auto", "dtype", *(f"S = {columns}" for columns in lengths)], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=int, default=128, help="P, prefix columns (default: 128)")
    parser.add_argument("--window", type=int, default=32, help="W, window size in speech columns (default: 32)")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="S, prefix and speech columns"
    )
    parser.add_argument(
        "--short",
        type=int,
        nargs="+",
        default=[64, 128, 160, 192, 224, 256, 320, 384, 448, 512],
        help="S of the second table, for the automatically chosen kernel",
    )
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (default: 7)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{machine()}\n\nForward and backward, B = 1, P = {given.prefix}, W = {given.window}\n")
    print(lengths_table(given.prefix, given.window, given.lengths, given.repeats), "\n", flush=True)
    # Short calls are noisy, so repeat them more often.
    print(choices_table(given.prefix, given.window, given.short, 3 * given.repeats))


if __name__ == "__main__":
    main()
