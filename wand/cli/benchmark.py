"""`wand benchmark`: the cost of a decoding step under full attention and under the window."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from wand.attention import Windows
from wand.benchmark.capacity import Capacity, Card, capacity, save_capacity, show_capacity
from wand.benchmark.cost_report import CostReport, save, show
from wand.benchmark.figure import curve_seconds, save_latency
from wand.benchmark.machine import describe, read_bandwidth
from wand.benchmark.measure import Bench, Place
from wand.benchmark.paper import LEGEND, paper_table
from wand.benchmark.paths import measured_systems
from wand.benchmark.shapes import SHAPES
from wand.checks import check_device, check_number
from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import OptionParser, parse_window
from wand.cli.parts.capacity import PREFIX, WINDOW, add_options, check_options, open_size
from wand.codecs import Codec
from wand.console.progress import progress
from wand.console.tables import show_table
from wand.files.writing import check_folder
from wand.kv_cache.sizes import device_memory
from wand.model.backbone import Backbone

DTYPES = ("float32", "bfloat16")
# What the numbers must exceed, and the most that they may be.
LIMITS = {
    "threads": (0, 1024),
    "prefix": (0, 1e6),
    "repeats": (0, 1e6),
    "seconds": (0, 86_400),
    "batch": (0, 1e6),
    "memory": (0, 1e6),
    "share": (0, 1),
    "block": (0, 1e6),
    "columns_per_second": (0, 1e6),
}
# Seconds of speech, for steps and for streams.
SECONDS, STREAM_SECONDS = [10, 60, 600], [10, 30, 60, 300, 600]
# Time limit, in seconds, for all systems at one point of the curve.
CURVE_BUDGET = 4.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = OptionParser(
        prog="wand benchmark",
        description="Measure time, memory and FLOPs of a decoding step. Steps with full attention and with the window "
        "alternate in one run. --shape needs only torch and transformers.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--shape", choices=sorted(SHAPES), help="measure a released model's size, with random weights")
    what.add_argument(
        "--ckpt_path",
        help="measure the student of a run: a run folder, a checkpoint file, or `last` (the newest run); with "
        "--capacity also an export",
    )
    what.add_argument(
        "--config",
        help="with --capacity: a model that need not be trained: a config of wand, or a config.json of transformers",
    )
    what.add_argument("--paper", action="store_true", help="compute the paper's efficiency figures; measure nothing")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="dtype of weights and cache (default: float32)"
    )
    parser.add_argument("--int8", action="store_true", help="also measure int8 weights (lean body, CPU only)")
    parser.add_device()
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: torch's own choice)")
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        help="seconds of speech before the measured step (default: 10 60 600; with --capacity: 10 30 60 300 600)",
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64], help="batch sizes (default: 1 8 64)")
    parser.add_argument(
        "--prefix",
        type=int,
        help="number of prefix columns (default: the paper's with --shape, 192 with --ckpt_path)",
    )
    parser.add_argument(
        "--window",
        help="window in speech columns, or a YAML file with one for each layer (default: the paper's with --shape, the "
        "run's with --ckpt_path)",
    )
    parser.add_argument("--repeats", type=int, default=20, help="largest number of timed steps (default: 20)")
    parser.add_argument(
        "--out", type=Path, help="folder for the results (default: RUN/benchmark, or runs/benchmark-SHAPE)"
    )
    add_options(parser)
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    options = parser.parse_args(arguments)
    for name, (low, high) in LIMITS.items():
        value = getattr(options, name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                check_number(f"--{name}", one, f"({low:g}, {high:g}]")
    check_options(parser, options)
    if options.seconds is None:
        options.seconds = STREAM_SECONDS if options.capacity else SECONDS
    if options.window is not None:
        options.window = parse_window(options.window)
    if options.out is not None:
        check_folder(options.out)
    check_device(options.device)
    return options


def main(arguments: list[str]) -> CostReport | Capacity | None:
    """Measure, print, and write ``benchmark.json``, ``latency.png`` and TensorBoard's file."""
    options = parse(arguments)
    if options.capacity:
        return count_streams(options)
    if options.paper:
        show_table("Table 1 of the paper, computed and as published (10 s of speech)", *paper_table(), words=2)
        print(LEGEND)
        return None
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model, backbone, codec, prefix, window, folder = _open(options)
    check_folder(folder)
    report = run(model, backbone, codec, prefix, window, options)
    show(report)
    written = save(report, folder)
    for missing in save_latency(report, folder):
        print(missing)
    print(f"written: {written.parent}")
    return report


def run(
    model: str, backbone: Backbone, codec: Codec | None, prefix: int, window: Windows, options: argparse.Namespace
) -> CostReport:
    """Measure a model at every length and batch."""
    device = torch.device(options.device)
    places = [Place(seconds, rows) for rows in options.batch for seconds in options.seconds]
    bench = Bench(backbone, measured_systems(window, options.int8), prefix, options.repeats)
    curve = curve_seconds(bench.longest(max(options.seconds)))
    with progress("benchmark", len(places) + len(curve) + 2, "parts", stream=sys.stderr) as parts:
        parts.update(0, "memory")
        bandwidth = read_bandwidth(device)
        parts.update(1, "prefix, codec")
        speech = bench.speech(codec)
        steps = []
        for place in places:
            parts.update(parts.done + 1, f"{place.seconds:g} s, batch {place.rows}")
            steps += bench.steps(place)
        points = []
        for seconds in curve:
            parts.update(parts.done + 1, f"curve, {seconds:g} s")
            points += bench.steps(Place(seconds), CURVE_BUDGET)
    assert window.plain is not None, "a window is measured beside full attention"
    return CostReport(
        model=model,
        machine=describe(device),
        dtype=options.dtype,
        prefix=prefix,
        window=window.plain,
        columns_per_second=backbone.columns_per_second,
        tokens_a_column=backbone.num_codebooks,
        bandwidth=bandwidth,
        steps=steps,
        curve=points,
        speech=speech,
    )


def count_streams(options: argparse.Namespace) -> Capacity:
    """Count the streams that fit on a card, print them, and write ``capacity.json`` if there is a folder for it."""
    model, prefix, windows = open_size(options)
    memory = device_memory(torch.device(options.device)) if options.memory is None else int(options.memory * 2**30)
    card = Card(memory, options.share, options.block, prefix)
    found = capacity(model, card, windows, options.seconds)
    show_capacity(found)
    if options.out is not None:
        print(f"written: {save_capacity(found, options.out)}")
    return found


def _open(options: argparse.Namespace) -> tuple[str, Backbone, Codec | None, int, Windows, Path]:
    """Open the model to measure: its name, model, codec, P, W and the folder for the results."""
    dtype = getattr(torch, options.dtype)
    if options.shape is not None:
        shape = SHAPES[options.shape]
        backbone = shape.build(options.device, dtype)
        prefix, window = options.prefix or shape.prefix, backbone.windows(options.window or shape.window)
        folder = options.out or Path("runs") / f"benchmark-{options.shape}"
        return f"{shape.title} (random weights)", backbone, None, prefix, window, folder
    # Imported here because --shape must work with only torch and transformers.
    from wand.runs.checkpoints import codec_of_run, find_checkpoint, load_backbone_and_settings, run_folder

    student, settings = load_backbone_and_settings(options.ckpt_path)
    student.codec = codec_of_run(options.ckpt_path)
    codec = student.find_codec()
    checkpoint = find_checkpoint(options.ckpt_path)
    beside = run_folder(checkpoint) or checkpoint.parent
    return (
        f"{type(student).__name__} of {beside}",
        student.to(options.device, dtype).requires_grad_(False),
        None if codec is None else codec.to(options.device),
        options.prefix or PREFIX,
        student.windows(options.window or settings.window or WINDOW),
        options.out or beside / "benchmark",
    )
