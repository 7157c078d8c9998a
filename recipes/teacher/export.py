"""Turn a finished teacher run into the embedded voice: ``python -m recipes.teacher.export runs/teacher``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from omegaconf import OmegaConf

from wand.model.backbone import Backbone
from wand.runs.checkpoints import find_checkpoint, load_backbone_and_settings, read_checkpoint

CARD = """# The embedded voice

An `EncodecLM` ({parameters:.2f} M parameters, fp16, {size:.1f} MB) that clones a voice from one second of reference and
reads English from {front_end}. It is the full-attention teacher of the quickstart. Licence: Apache-2.0.

| | |
|---|---|
| data | {hours:g} h of sentences from `wand.demo`, spoken at run time by espeak-ng's seen voices (seed {seed}) |
| codec | `wand/assets/codec`: 50 frames/s, 4 codebooks of 256 |
| recipe | `recipes/teacher`: full attention, no teacher; {steps} steps of {batch} utterances |
| CER, validation, one take | {cer:.1f} % |

## Test split

{table}
"""


def export(run: Path, out: Path) -> Backbone:
    """Write the best checkpoint of a run as ``config.json``, ``model.safetensors`` (fp16) and a card.

    Args:
        run: Folder of a finished run. The card contains the table of ``wand test``, or else the one from the end of
            the fit.
        out: Folder to write.
    """
    best = find_checkpoint(run / "checkpoints" / "best.ckpt")
    backbone, _ = load_backbone_and_settings(best)
    backbone.save_pretrained(out, torch.float16)
    config = OmegaConf.load(run / "config.yaml")
    checkpoint = read_checkpoint(best)
    states = checkpoint["callbacks"].values()
    scores = [state["best_model_score"] for state in states if state.get("monitor") == "val/cer"]
    tables = [run / folder / "table.md" for folder in ("test", "closing")]
    processes = OmegaConf.select(config, "trainer.devices", default=1)
    card = CARD.format(
        parameters=sum(p.numel() for p in backbone.parameters()) / 1e6,
        size=(out / "model.safetensors").stat().st_size / 1e6,
        front_end=backbone.architecture()["front_end"],
        hours=OmegaConf.select(config, "data.source.init_args.hours"),
        seed=OmegaConf.select(config, "data.source.init_args.seed", default=0),
        steps=checkpoint["global_step"],
        batch=OmegaConf.select(config, "data.batch_size") * (processes if isinstance(processes, int) else 1),
        cer=100 * float(scores[0]),
        table=next(path for path in tables if path.is_file()).read_text().strip(),
    )
    (out / "README.md").write_text(card)
    return backbone


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of the recipe's fit")
    parser.add_argument("--out", type=Path, default=Path("wand/assets/encodec_lm"), help="folder to write")
    arguments = parser.parse_args()
    export(arguments.run, arguments.out)


if __name__ == "__main__":
    main()
