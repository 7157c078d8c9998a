"""`wand export`: a run's student in its original's format."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from wand.runs.export import export

DTYPES = ("float32", "bfloat16", "float16")


def main(arguments: list[str]) -> None:
    """Write the folder and say what lies in it."""
    parser = argparse.ArgumentParser(
        prog="wand export",
        description="Write a run's student as its original is published, with wand.json and a card: a folder that the "
        "original's programs open, and `wand.load` with its window.",
    )
    parser.add_argument(
        "--ckpt_path", required=True, help="run folder (its best checkpoint), checkpoint file, or `last`"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must be new or empty")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: as the original's)")
    options = parser.parse_args(arguments)
    export(options.ckpt_path, options.out, None if options.dtype is None else getattr(torch, options.dtype))
    console = Console()
    for path in sorted(file for file in options.out.rglob("*") if file.is_file()):
        console.print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB", highlight=False)
