"""Compares fused losses with all logits at once, and allowed rows with the whole head: ``python -m benchmarks.loss``.

It uses random hidden states and heads of student and teacher. Forward and backward include everything that a training
step logs. Times are medians of processor time on one thread; the variants alternate. Each variant's peak memory is
measured in a separate process, minus the memory before the call. Prints Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor
from transformers import Qwen2Config

from benchmarks.processor import dtype_name, machine, processor_seconds
from wand.backbones.causal_lm import CausalSpeechLM
from wand.backbones.spark_tts import FORMAT
from wand.console.tables import markdown
from wand.distillation.losses import agreement, cross_entropy, skew_kl
from wand.distillation.terms import LossTerms
from wand.model.heads import HeadInput, LinearHead
from wand.model.prompts import SpeechTokens

TERMS = LossTerms()
DTYPES = (torch.float32, torch.bfloat16)
Loss = Callable[[HeadInput, HeadInput, Tensor], Tensor]


def naive_loss(student: HeadInput, teacher: HeadInput, labels: Tensor) -> Tensor:
    """The loss of all logits at once, differentiated by autograd."""
    logits = student.logits()
    with torch.no_grad():
        expected = teacher.logits()
        skew_kl(logits, expected, 0.0).sum()
        agreement(logits, expected).sum()
    kd = skew_kl(logits, expected, TERMS.skew, TERMS.temperature)
    return (TERMS.ce_weight * cross_entropy(logits, labels) + TERMS.kd_weight * kd).sum()


def naive_loss_without_logs(student: HeadInput, teacher: HeadInput, labels: Tensor) -> Tensor:
    """The same loss without the logged true KL and agreement."""
    logits = student.logits()
    with torch.no_grad():
        expected = teacher.logits()
    kd = skew_kl(logits, expected, TERMS.skew, TERMS.temperature)
    return (TERMS.ce_weight * cross_entropy(logits, labels) + TERMS.kd_weight * kd).sum()


def fused_loss(student: HeadInput, teacher: HeadInput, labels: Tensor) -> Tensor:
    """The loss of a training step."""
    return student.loss(labels, torch.ones(labels.shape), TERMS, teacher).loss


LOSSES: dict[str, Loss] = {"naive": naive_loss, "naive, no logs": naive_loss_without_logs, "fused": fused_loss}


def make_inputs(columns: int, rows: int, width: int) -> tuple[HeadInput, HeadInput, Tensor]:
    """A student (with gradients), a teacher that differs a little, and labels ``[N, 1]``."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(columns, width), torch.randn(1, rows, width) / width**0.5
    teacher = HeadInput(hidden + 0.3 * torch.randn(columns, width), LinearHead(weight.clone()))
    student = HeadInput(hidden.requires_grad_(), LinearHead(weight.requires_grad_()))
    return student, teacher, labels_of(columns, rows)


def labels_of(columns: int, rows: int) -> Tensor:
    """Random labels, ``[N, 1]``."""
    return torch.randint(0, rows, (columns, 1))


def run(loss: Loss, student: HeadInput, teacher: HeadInput, labels: Tensor, dtype: torch.dtype) -> None:
    """Forward and backward, in bfloat16 under autocast if `dtype` says so."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = loss(student, teacher, labels)
    value.backward()
    for tensor in (student.hidden, *student.head.weights):
        tensor.grad = None


def peak_mib(name: str, columns: int, rows: int, width: int, dtype: torch.dtype) -> float:
    """Peak memory of one call, in MiB above the memory of this new process."""
    torch.set_num_threads(1)
    inputs = make_inputs(columns, rows, width)
    small = make_inputs(2, 2, width)
    run(LOSSES[name], *small, dtype)  # a small call first, because libraries allocate memory on first use
    before = _most_memory()
    run(LOSSES[name], *inputs, dtype)
    return (_most_memory() - before) / 2**20


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)


def fused_table(columns: int, rows: int, width: int, repeats: int) -> str:
    """Time and peak memory of every variant, also as shares of the naive variant's."""
    cases = {f"{dtype_name(dtype)} {name}": (name, dtype) for dtype in DTYPES for name in LOSSES}
    peaks = {}
    # Measured before this process grows, because the peak of a new process starts at the memory of its parent.
    for case, (name, dtype) in cases.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            peaks[case] = process.submit(peak_mib, name, columns, rows, width, dtype).result()
    inputs = make_inputs(columns, rows, width)
    calls = {case: partial(run, LOSSES[name], *inputs, dtype) for case, (name, dtype) in cases.items()}
    seconds = processor_seconds(calls, repeats)
    lines = []
    for case, (name, dtype) in cases.items():
        naive = f"{dtype_name(dtype)} naive"
        shares = f"{seconds[case] / seconds[naive]:.2f}", f"{peaks[case] / peaks[naive]:.2f}"
        measured = f"{1000 * seconds[case]:.0f}", shares[0], f"{peaks[case]:.0f}", shares[1]
        lines.append([dtype_name(dtype), name, *measured])
    return markdown(["dtype", "loss", "ms", "of naive", "peak MiB", "of naive"], lines)


def make_language_model(vocabulary: int, codes: int, width: int) -> CausalSpeechLM:
    """A language model of one layer with tied embeddings; only its head matters here."""
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=1,
        num_attention_heads=width // 64,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ).to_diff_dict()
    counted = replace(
        FORMAT,
        speech_tokens=[replace(FORMAT.speech_tokens[0], count=codes)],
        global_tokens=SpeechTokens("<|bicodec_global_{}|>", count=1),
    )
    return CausalSpeechLM(architecture={"config": config, "format": asdict(counted), "dtype": "float32"})


def table_of(model: CausalSpeechLM) -> Tensor:
    """The embeddings of a model, which are also its head."""
    table = model.decoder.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    return table


def allowed_rows_table(columns: int, vocabulary: int, codes: int, width: int, repeats: int) -> str:
    """Times of the loss over the allowed rows and over the whole vocabulary. Gradients reach the same table."""
    torch.manual_seed(0)
    student, teacher = (make_language_model(vocabulary, codes, width) for _ in range(2))
    teacher.requires_grad_(False)
    hidden = torch.randn(columns, width).requires_grad_()
    labels = labels_of(columns, student.speech_vocab_size)

    def whole(loss: Loss) -> None:
        finish(loss, *(HeadInput(hidden, LinearHead(table_of(lm)[None])) for lm in (student, teacher)))

    def allowed(loss: Loss) -> None:
        finish(loss, *(HeadInput(hidden, lm.speech_head()) for lm in (student, teacher)))

    def finish(loss: Loss, own: HeadInput, other: HeadInput) -> None:
        loss(own, other, labels).backward()
        table_of(student).grad = hidden.grad = None

    sized = {"whole": (whole, vocabulary), "allowed": (allowed, student.speech_vocab_size)}
    calls = {
        f"{name}, {kind}": partial(call, LOSSES[kind])
        for name, (call, _) in sized.items()
        for kind in ("naive", "fused")
    }
    seconds = processor_seconds(calls, repeats)
    slowest = seconds["whole, naive"]
    lines = [
        [name, str(sized[name.split(",")[0]][1]), f"{1000 * took:.0f}", f"**{slowest / took:.1f}x**"]
        for name, took in seconds.items()
    ]
    return markdown(["rows, loss", "V", "ms", "faster"], lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=2048, help="labels in the first table (default: 2048)")
    parser.add_argument("--rows", type=int, default=6564, help="V of the first table (default: 6564)")
    parser.add_argument("--width", type=int, default=896, help="D, hidden size (default: 896)")
    parser.add_argument(
        "--vocabulary", type=int, default=166_000, help="V of the whole head, second table (default: 166000)"
    )
    parser.add_argument("--codes", type=int, default=8192, help="allowed rows, second table (default: 8192)")
    parser.add_argument("--few-columns", type=int, default=512, help="labels in the second table (default: 512)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    print(f"\n{given.columns} columns, V = {given.rows}, D = {given.width}\n")
    print(fused_table(given.columns, given.rows, given.width, given.repeats), flush=True)
    print(f"\n{given.few_columns} columns, allowed rows of {given.vocabulary}, D = {given.width}, float32\n")
    print(allowed_rows_table(given.few_columns, given.vocabulary, given.codes, given.width, given.repeats))


if __name__ == "__main__":
    main()
