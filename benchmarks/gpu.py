"""Tests and measurements on a GPU, as a dated page: ``python -m benchmarks.gpu``.

Runs the tests of ``tests/cuda``, then measures decoding steps with and without a window, attention in training, and
whole training steps with their memory. ``--device cpu --out FOLDER`` runs the same with small sizes, to test this
script. Without a GPU it ends with status 2.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
import transformers

from benchmarks.attention import HEADS, forward_backward
from benchmarks.processor import dtype_name
from benchmarks.step_memory import SIZES, measure, peak_bytes
from wand.attention import AttentionContext, AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.benchmark.cost import interleaved_milliseconds, seconds_to_columns
from wand.benchmark.cost_report import CostReport, sentences, step_table
from wand.benchmark.machine import describe
from wand.benchmark.paths import MeasuredSystem, make_cache, open_steps
from wand.benchmark.shapes import SHAPES
from wand.checks import check_device
from wand.cli.benchmark import parse, run
from wand.console.tables import markdown
from wand.files.writing import write_text
from wand.model.backbone import Backbone

ROOT = Path(__file__).parents[1]
SUMMARY = re.compile(r"\d+ (passed|failed|skipped|error)")


class Plan(NamedTuple):
    """What is measured on a kind of device."""

    seconds: tuple[float, ...]
    batches: tuple[int, ...]
    repeats: int
    lengths: tuple[int, ...]


PLANS = {
    "cuda": Plan((10, 60, 600), (1, 8, 64), 20, (512, 2048, 8192)),
    "cpu": Plan((0.2,), (1,), 1, (64,)),
}


def run_tests(device: torch.device) -> tuple[str, bool]:
    """The last line of pytest, with the names of the tests that failed, and whether all passed."""
    command = [sys.executable, "-m", "pytest", "tests/cuda", "--device", device.type, "-v", "--no-showlocals"]
    print(" ".join(command), flush=True)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
    summary = next((line.strip("= ") for line in reversed(lines) if SUMMARY.search(line)), "pytest gave no summary")
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return "\n".join([f"{summary}.", *(f"- {line}" for line in failed)]), process.returncode == 0


def make_model(device: torch.device) -> tuple[str, Backbone, int, int]:
    """The model whose decoding is measured: its name, itself, P and W."""
    if device.type == "cuda":
        shape = SHAPES["cosyvoice2"]
        return f"{shape.title} (random weights)", shape.build(device, torch.bfloat16), shape.prefix, shape.window
    lm = EncodecLM(architecture=EncodecLMArchitecture(hidden_size=64, num_layers=2, intermediate_size=96))
    return "EncodecLM (random weights)", lm.eval().requires_grad_(False).to(torch.bfloat16), 64, 16


def decoding(device: torch.device, plan: Plan) -> tuple[CostReport, str]:
    """The report of the steps, and a table of speed and memory by length."""
    name, backbone, prefix, window = make_model(device)
    numbers = ["--seconds", *map(str, plan.seconds), "--batch", *map(str, plan.batches), "--repeats", str(plan.repeats)]
    options = parse(["--shape", "cosyvoice2", "--device", device.type, "--dtype", "bfloat16", *numbers])
    report = run(name, backbone, None, prefix, AttentionWindow(window), options)
    rows = []
    for step in report.steps:
        speed = report.tokens_per_second(step)
        if step.path != "lean" or speed is None:
            continue
        peak = peak_bytes(device, partial(_one_step, backbone, prefix, step.window, step.seconds, step.rows))
        sizes = [f"{step.kv_bytes / 2**20:.1f}", f"{peak / 2**20:.1f}"]
        rows.append([f"{step.seconds:g}", str(step.rows), step.system, f"{speed:.0f}", *sizes])
    titles = ["seconds", "batch", "system", "tokens/s", "KV MiB", "peak MiB of a cache and a step"]
    return report, markdown(titles, rows)


@torch.inference_mode()
def _one_step(backbone: Backbone, prefix: int, window: int | list[int] | None, seconds: float, rows: int) -> None:
    system = MeasuredSystem(backbone.windows(window), "lean")
    cache = make_cache(system, backbone, prefix, seconds_to_columns(backbone, seconds), rows)
    for half in open_steps(system, backbone).begin(cache, prefix, rows):
        half()


def attention(device: torch.device, plan: Plan) -> str:
    """Times of one layer's attention in training, forward and backward, by length."""
    rows = []
    for heads in HEADS:
        for dtype in (torch.float32, torch.bfloat16):
            for columns in plan.lengths:
                prefix = columns // 4
                tensors = [
                    torch.randn(1, columns, count, heads.width, dtype=dtype, device=device)
                    .transpose(1, 2)
                    .requires_grad_()
                    for count in (heads.query, heads.key, heads.key)
                ]
                weights = torch.randn(1, columns, heads.query, heads.width, dtype=dtype, device=device)
                contexts = [
                    AttentionContext(AttentionWindow(32), prefix, kernel="dense"),
                    AttentionContext(AttentionWindow(32), prefix),
                    AttentionContext(AttentionWindow(32, 2.0), prefix),
                    AttentionContext(AttentionWindow(), prefix),
                ]
                calls = [partial(forward_backward, context, tensors, weights) for context in contexts]
                times = interleaved_milliseconds(calls, device, plan.repeats)
                ratio = f"**{times[0] / times[1]:.2f}x**"
                rows.append([str(heads), dtype_name(dtype), str(columns), *(f"{t:.2f}" for t in times), ratio])
    titles = ["heads", "dtype", "S", "dense mask ms", "window ms", "soft ms", "causal ms", "dense mask / window"]
    return markdown(titles, rows)


def training(device: torch.device) -> str:
    """Time and memory of training steps beside the estimate."""
    rows = []
    for mixed in (False, True):
        for checkpointing in (False, True):
            measured = measure(device, SIZES[device.type], mixed, checkpointing)
            total = measured.estimate.total
            sizes = [f"{measured.peak / 2**20:.0f}", f"{total / 2**20:.0f}", f"**{total / measured.peak:.2f}**"]
            how = ["bf16-mixed" if mixed else "float32", "yes" if checkpointing else "no"]
            rows.append([*how, f"{measured.milliseconds:.0f}", *sizes])
    return markdown(["precision", "checkpointing", "ms / step", "peak MiB", "estimate MiB", "estimate / peak"], rows)


def page(device: torch.device, date: str, tests: str) -> str:
    """Measure, and write the page."""
    plan, size = PLANS[device.type], SIZES[device.type]
    report, speeds = decoding(device, plan)
    versions = f"transformers {transformers.__version__}, lightning {lightning.__version__}"
    cuda = f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} GPUs" if device.type == "cuda" else "no GPU"
    what = (
        "" if device.type == "cuda" else "This page was made on a CPU, to test the script. Its figures mean nothing.\n"
    )
    titles, lines = step_table(report)
    return "\n".join(
        [
            f"# GPU, {date}\n",
            f"{describe(device)}, {versions}, {cuda}. `python -m benchmarks.gpu`.\n{what}",
            f"## Tests\n\n{tests}\n",
            f"## Decoding steps\n\n{markdown(titles, lines)}\n",
            *(f"{sentence}\n" for sentence in sentences(report)),
            f"## Decoding by length\n\n{speeds}\n",
            "## Attention in training\n\nForward and backward of one layer, one row, P = S / 4, W = 32, medians.\n",
            f"{attention(device, plan)}\n",
            "## Training steps\n",
            f"`EncodecLM` (width {size.width}, {size.layers} layers) with a teacher, {size.rows} rows of {size.frames} "
            f"frames, W = 32. Time of the last of a few steps, and the peak of the memory of all.\n",
            training(device),
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the status: 0, 1 if a test failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(PLANS), default="cuda", help="the device (default: cuda)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks", help="folder of the page (default: benchmarks)"
    )
    given = parser.parse_args(arguments)
    try:
        check_device(given.device)
    except ValueError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    device = torch.device(given.device, 0) if given.device == "cuda" else torch.device(given.device)
    tests, passed = run_tests(device)
    date = datetime.date.today().isoformat()
    path = given.out / f"{date}-gpu.md"
    write_text(path, page(device, date, tests))
    print(f"written: {path}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
