"""`wand export`: write a run's student in the format of its original model."""

from __future__ import annotations

from pathlib import Path

import torch

from wand.cli import FLAG, FLAG_HELP
from wand.cli.options import DTYPES, OptionParser
from wand.files.writing import check_folder
from wand.runs.export import export, export_adapter


def main(arguments: list[str]) -> None:
    """Write the folder and list its files."""
    parser = OptionParser(
        prog="wand export",
        description="Write a run's student in the published format of its original model, with wand.json and a model "
        "card. The original's own programs can open the folder; `wand.load` also applies the window.",
    )
    parser.add_argument(
        "--ckpt_path", required=True, help="run folder (its best checkpoint), checkpoint file, or `last` (newest run)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must be new or empty")
    parser.add_argument(
        "--dtype", choices=DTYPES, help="dtype of the weights (default: the original's, float32 for an adapter)"
    )
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="write only the adapter of a run with LoRA, in the format of peft (default: the whole, merged model)",
    )
    parser.add_argument(
        "--causal_lm",
        action="store_true",
        help="also write the model as a causal language model of transformers over one vocabulary, for serving engines "
        "(docs/serving.md says for which models)",
    )
    parser.add_argument(FLAG, action="store_true", help=FLAG_HELP)
    options = parser.parse_args(arguments)
    check_folder(options.out)
    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    if not options.adapter:
        export(options.ckpt_path, options.out, dtype, options.causal_lm)
    elif options.causal_lm:
        raise ValueError("--adapter writes no model: leave out --causal_lm")
    else:
        export_adapter(options.ckpt_path, options.out, dtype)
    for path in sorted(file for file in options.out.rglob("*") if file.is_file()):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB", flush=True)
