"""Compares band and dense attention in a whole training step of a student: ``python -m benchmarks.training_step``.

The model is a Llama or Qwen2 body with random weights and a head over the speech vocabulary; the loss is cross-entropy.
Times are medians of processor time for one row on one thread; the variants alternate. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaModel, PreTrainedModel, Qwen2Config, Qwen2Model

from benchmarks.processor import dtype_name, machine, processor_seconds
from wand.attention import AttentionContext, AttentionWindow, use_wand_attention
from wand.attention.dispatch import Kernel
from wand.console.tables import markdown

BODIES = {"llama": (LlamaConfig, LlamaModel), "qwen2": (Qwen2Config, Qwen2Model)}
KERNELS: tuple[Kernel, ...] = ("dense", "band")


def make_body(family: str, layers: int, width: int, heads: tuple[int, int]) -> PreTrainedModel:
    """A decoder with random weights under windowed attention."""
    config_class, model_class = BODIES[family]
    config = config_class(
        vocab_size=8,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
    )
    body = model_class(config).train()
    use_wand_attention(body)
    return body


def step(body: PreTrainedModel, head: nn.Linear, embeds: Tensor, labels: Tensor, context: AttentionContext) -> None:
    """Forward, loss over the speech columns, backward."""
    hidden = body(inputs_embeds=embeds, use_cache=False, attention_context=context).last_hidden_state
    logits = head(hidden[:, context.boundary :])
    functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten()).backward()
    body.zero_grad()
    head.zero_grad()


def table(
    family: str,
    layers: int,
    width: int,
    heads: tuple[int, int],
    lengths: Sequence[int],
    prefix: int,
    window: int,
    vocabulary: int,
    repeats: int,
) -> str:
    """A Markdown table with one line per dtype and length."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        body = make_body(family, layers, width, heads)
        nn.Module.to(body, dtype)
        head = nn.Linear(width, vocabulary, bias=False, dtype=dtype)
        for columns in lengths:
            embeds = torch.randn(1, columns, width, dtype=dtype)
            labels = torch.randint(vocabulary, (1, columns - prefix))
            contexts = {kernel: AttentionContext(AttentionWindow(window), prefix, kernel=kernel) for kernel in KERNELS}
            calls: dict[str, Callable[[], object]]
            calls = {name: partial(step, body, head, embeds, labels, context) for name, context in contexts.items()}
            took = processor_seconds(calls, repeats)
            times = [f"{1000 * took[name]:.0f}" for name in KERNELS]
            rows.append([dtype_name(dtype), str(columns), *times, f"**{took['dense'] / took['band']:.2f}x**"])
    return markdown(["dtype", "S", "dense ms", "band ms", "dense / band"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--body", choices=list(BODIES), default="llama", help="family of the body (default: llama)")
    parser.add_argument("--layers", type=int, default=8, help="number of layers (default: 8)")
    parser.add_argument("--width", type=int, default=512, help="hidden size (default: 512)")
    parser.add_argument("--heads", type=int, nargs=2, default=[8, 2], help="query and key/value heads (default: 8 2)")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[512, 2048], help="S, prefix and speech columns (default: 512 2048)"
    )
    parser.add_argument("--prefix", type=int, default=128, help="P, prefix columns (default: 128)")
    parser.add_argument("--window", type=int, default=32, help="W, window size in speech columns (default: 32)")
    parser.add_argument("--vocabulary", type=int, default=6564, help="rows of the head (default: 6564)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = (given.heads[0], given.heads[1])
    print(
        f"{machine()}\n\n{given.body}, {given.layers} layers x {given.width}, {heads[0]}/{heads[1]} heads, B = 1, "
        f"P = {given.prefix}, W = {given.window}, vocabulary {given.vocabulary}\n"
    )
    sizes = (given.layers, given.width, heads, given.lengths)
    print(table(given.body, *sizes, given.prefix, given.window, given.vocabulary, given.repeats))


if __name__ == "__main__":
    main()
