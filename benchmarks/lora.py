"""Compares LoRA with the student as its own teacher to two copies of the weights: ``python -m benchmarks.lora``.

Each fit of a few steps runs in a process of its own, in turns: two copies, LoRA, two copies, ... The memory is the peak
of the process over what it had before the model was built; the time is processor time, from the second step on. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from benchmarks.processor import machine
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs.reference import Reference
from wand.console.tables import markdown
from wand.lora import LoraSettings
from wand.model.batch import ConditionedBatch, make_batch
from wand.training.module import WandModule
from wand.training.teacher import COPY, SELF

TWO_COPIES, LORA = "two copies, all weights trained", "one copy, LoRA"
TEXT = "the text has as many letters as are needed to fill up the prefix."


class Clock(Callback):
    """Processor time at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Read the clock."""
        self.ends.append(time.process_time())


def batch_of(lm: EncodecLM, rows: int, columns: int) -> ConditionedBatch:
    """Utterances of random codes."""

    def codes(frames: int) -> torch.Tensor:
        return torch.randint(0, lm.shape.codebook_size, (lm.num_codebooks, frames))

    frames = columns - lm.layout.flush_columns
    said = [lm.conditioner(TEXT, Reference(codes(25))) for _ in range(rows)]
    return make_batch(lm.conditioner, lm.layout, said, [codes(frames) for _ in range(rows)])


def fit(folder: str, variant: str, rank: int, rows: int, columns: int, steps: int) -> dict[str, float]:
    """Train for some steps: peak memory in MiB, processor seconds of a step, millions of trained parameters."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lora = LoraSettings(rank, 2.0 * rank) if variant == LORA else None
    module = WandModule(EncodecLM(pretrained=folder), teacher=COPY if lora is None else SELF, lora=lora)
    batches = [batch_of(module.backbone, rows, columns)] * (steps + 1)  # type: ignore[arg-type]
    clock = Clock()
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, callbacks=[clock], **quiet)
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader)
    return {
        "MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "seconds": (clock.ends[-1] - clock.ends[0]) / steps,
        "trained": sum(p.numel() for p in module.parameters() if p.requires_grad) / 1e6,
    }


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Medians of each variant, and the medians of the ratios of neighbouring fits."""
    rows = []
    for name, fits in found.items():
        middle = [statistics.median(one[key] for one in fits) for key in ("trained", "MiB", "seconds")]
        pairs = list(zip(fits, found[TWO_COPIES], strict=True))
        ratios = [statistics.median(own[key] / other[key] for own, other in pairs) for key in ("MiB", "seconds")]
        rows.append([name, f"{middle[0]:.1f} M", f"{middle[1]:.0f}", f"{ratios[0]:.2f}", f"{middle[2]:.2f}"])
        rows[-1].append(f"{ratios[1]:.2f}")
    return markdown(["training", "trained", "peak MiB", "ratio", "CPU s a step", "ratio"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=768, help="hidden size (default: 768)")
    parser.add_argument("--layers", type=int, default=12, help="number of layers (default: 12)")
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapters (default: 16)")
    parser.add_argument("--rows", type=int, default=2, help="rows of a batch (default: 2)")
    parser.add_argument("--columns", type=int, default=103, help="speech columns of a row (default: 103)")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a fit, after one (default: 2)")
    parser.add_argument("--pairs", type=int, default=3, help="fits of each variant (default: 3)")
    parser.add_argument("--fit", nargs=2, metavar=("FOLDER", "VARIANT"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.fit is not None:
        folder, variant = given.fit
        print(json.dumps(fit(folder, variant, given.rank, given.rows, given.columns, given.steps)))
        return
    sizes = [f"--{name}={getattr(given, name)}" for name in ("rank", "rows", "columns", "steps")]
    found: dict[str, list[dict[str, float]]] = {TWO_COPIES: [], LORA: []}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        lm = EncodecLM(
            architecture=EncodecLMArchitecture(
                hidden_size=given.width,
                num_layers=given.layers,
                num_heads=given.width // 64,
                num_key_value_heads=given.width // 64,
                intermediate_size=8 * given.width // 3,
            )
        )
        lm.save_pretrained(Path(folder))
        for _ in range(given.pairs):
            for variant, fits in found.items():
                command = [sys.executable, "-m", "benchmarks.lora", "--fit", folder, variant, *sizes]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                fits.append(json.loads(done.stdout.splitlines()[-1]))
    count = sum(parameter.numel() for parameter in lm.parameters())
    torch.set_num_threads(1)
    print(
        f"{machine()}\n\n{count / 1e6:.1f} M parameters ({given.layers} layers x {given.width}), float32, {given.rows} "
        f"rows, {given.columns} speech columns, rank {given.rank}, {given.pairs} pairs of fits\n"
    )
    print(table(found))


if __name__ == "__main__":
    main()
