"""Turn a finished teacher run into the embedded voice: ``python -m recipes.teacher.export runs/teacher``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from omegaconf import OmegaConf

from wand.backbones.encodec_lm import EncodecLM
from wand.files.writing import write_text
from wand.model.backbone import Backbone
from wand.runs.checkpoints import find_checkpoint, load_backbone_and_settings, read_checkpoint


def export(run: Path, out: Path, voice: Path | None = None) -> Backbone:
    """Write the best checkpoint of a run as ``config.json``, ``model.safetensors`` (fp16) and a card.

    Args:
        run: Folder of a finished run.
        out: Folder to write.
        voice: Output folder of ``benchmarks.voice``, whose tables and spectrograms go on the card. Without it, the card
            has the table of ``wand test``, or else the one from the end of the fit.
    """
    best = find_checkpoint(run / "checkpoints" / "best.ckpt")
    backbone, _ = load_backbone_and_settings(best)
    assert isinstance(backbone, EncodecLM)
    backbone.save_pretrained(out, torch.float16)
    config = OmegaConf.load(run / "config.yaml")
    checkpoint = read_checkpoint(best)
    kept = next(state for state in checkpoint["callbacks"].values() if state.get("monitor"))
    processes = OmegaConf.select(config, "trainer.devices", default=1)
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    card = template.format(
        parameters=sum(p.numel() for p in backbone.parameters()) / 1e6,
        size=(out / "model.safetensors").stat().st_size / 1e6,
        front_end=backbone.shape.front_end,
        codebooks=backbone.shape.num_codebooks,
        codes=backbone.shape.codebook_size,
        steps=checkpoint["global_step"],
        batch=OmegaConf.select(config, "data.batch_size") * (processes if isinstance(processes, int) else 1),
        monitor=kept["monitor"],
        score=float(kept["best_model_score"]),
        understood=_tables(run, out, voice),
    )
    write_text(out / "README.md", card)
    return backbone


def _tables(run: Path, out: Path, voice: Path | None) -> str:
    if voice is None:
        tables = [run / folder / "table.md" for folder in ("test", "closing")]
        return next(path for path in tables if path.is_file()).read_text(encoding="utf-8").strip()
    parts = [(voice / "voice.md").read_text(encoding="utf-8").strip().replace("\n## ", "\n### ")]
    for picture in sorted(voice.glob("*/spectrograms.png")):
        name = f"{picture.parent.name}.png"
        shutil.copyfile(picture, out / name)
        parts.append(f"One sentence of the list {picture.parent.name} through every stage:\n\n![spectrograms]({name})")
    return "\n\n".join(parts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of the recipe's fit")
    parser.add_argument("--out", type=Path, default=Path("wand/assets/encodec_lm"), help="folder to write")
    parser.add_argument("--voice", type=Path, help="output folder of benchmarks.voice, for the card")
    arguments = parser.parse_args()
    export(arguments.run, arguments.out, arguments.voice)


if __name__ == "__main__":
    main()
