"""Fused losses against all logits at once, allowed rows against a whole head: ``python -m benchmarks.loss``.

Random hidden states and heads of student and teacher, forward and backward with all that a training step logs, one
thread, processor time; the variants take turns, medians. Peaks are those of a process for each variant, above what it
held before. Prints Markdown.
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
    """All logits at once, differentiated by autograd."""
    logits = student.logits()
    with torch.no_grad():
        expected = teacher.logits()
        skew_kl(logits, expected, 0.0).sum()
        agreement(logits, expected).sum()
    kd = skew_kl(logits, expected, TERMS.skew, TERMS.temperature)
    return (TERMS.ce_weight * cross_entropy(logits, labels) + TERMS.kd_weight * kd).sum()


def naive_loss_without_logs(student: HeadInput, teacher: HeadInput, labels: Tensor) -> Tensor:
    """The same without true KL and agreement."""
    logits = student.logits()
    with torch.no_grad():
        expected = teacher.logits()
    kd = skew_kl(logits, expected, TERMS.skew, TERMS.temperature)
    return (TERMS.ce_weight * cross_entropy(logits, labels) + TERMS.kd_weight * kd).sum()


def fused_loss(student: HeadInput, teacher: HeadInput, labels: Tensor) -> Tensor:
    """What a training step does."""
    return student.loss(labels, torch.ones(labels.shape), TERMS, teacher).loss


LOSSES: dict[str, Loss] = {"naive": naive_loss, "naive, no logs": naive_loss_without_logs, "fused": fused_loss}


def make_inputs(columns: int, rows: int, width: int) -> tuple[HeadInput, HeadInput, Tensor]:
    """Student (with gradients), teacher a little beside it, labels ``[N, 1]``."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(columns, width), torch.randn(1, rows, width) / width**0.5
    teacher = HeadInput(hidden + 0.3 * torch.randn(columns, width), LinearHead(weight.clone()))
    student = HeadInput(hidden.requires_grad_(), LinearHead(weight.requires_grad_()))
    return student, teacher, labels_of(columns, rows)


def labels_of(columns: int, rows: int) -> Tensor:
    """Random ones, ``[N, 1]``."""
    return torch.randint(0, rows, (columns, 1))


def run(loss: Loss, student: HeadInput, teacher: HeadInput, labels: Tensor, dtype: torch.dtype) -> None:
    """Forward and backward; half precision by autocast."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = loss(student, teacher, labels)
    value.backward()
    for tensor in (student.hidden, *student.head.weights):
        tensor.grad = None


def peak_mib(name: str, columns: int, rows: int, width: int, dtype: torch.dtype) -> float:
    """What one call adds to the memory of this process, which has made none before."""
    torch.set_num_threads(1)
    inputs = make_inputs(columns, rows, width)
    small = make_inputs(2, 2, width)
    run(LOSSES[name], *small, dtype)  # what libraries set up on first use
    before = _most_memory()
    run(LOSSES[name], *inputs, dtype)
    return (_most_memory() - before) / 2**20


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)


def fused_table(columns: int, rows: int, width: int, repeats: int) -> str:
    """Time and peak of every variant, as shares of the naive one's."""
    cases = {f"{dtype_name(dtype)} {name}": (name, dtype) for dtype in DTYPES for name in LOSSES}
    peaks = {}
    # Before this process grows: a new one's peak begins with what its parent holds.
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
    """A tied language model of one layer; only its head matters here."""
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
    """Its embeddings, which are its head."""
    table = model.decoder.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    return table


def allowed_rows_table(columns: int, vocabulary: int, codes: int, width: int, repeats: int) -> str:
    """The loss over the rows that may be spoken, and over the whole vocabulary; gradients reach the same table."""
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
    parser.add_argument("--columns", type=int, default=2048, help="labels of the first table")
    parser.add_argument("--rows", type=int, default=6564, help="V of the first table")
    parser.add_argument("--width", type=int, default=896)
    parser.add_argument("--vocabulary", type=int, default=166_000, help="whole head of the second table")
    parser.add_argument("--codes", type=int, default=8192, help="allowed rows of the second table, without stops")
    parser.add_argument("--few-columns", type=int, default=512, help="labels of the second table")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    print(f"\n{given.columns} columns, V = {given.rows}, D = {given.width}\n")
    print(fused_table(given.columns, given.rows, given.width, given.repeats), flush=True)
    print(f"\n{given.few_columns} columns, allowed rows of {given.vocabulary}, D = {given.width}, float32\n")
    print(allowed_rows_table(given.few_columns, given.vocabulary, given.codes, given.width, given.repeats))


if __name__ == "__main__":
    main()
