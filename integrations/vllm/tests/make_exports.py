"""Make tiny exports and what wand speaks with them. Run by wand's own environment: ``make test-vllm``."""

from __future__ import annotations

import json
import sys
from contextlib import chdir
from pathlib import Path

import torch

import wand
from tests.backbones import test_causal_lm
from tests.cli.test_adapters import options, write_manifest, write_release
from wand.cli import main
from wand.decoding.generate import generate
from wand.decoding.stopping import StopReason, StopRules
from wand.model.batch import make_batch
from wand.model.sampling import Sampling
from wand.speech.synthesizer import Synthesizer

# vLLM's attention on a CPU needs heads of 32.
HEADS = {"hidden_size": 128, "intermediate_size": 192}
TEXTS = ("no", "hello there.", "so it is, and so it was.")
LIMIT = 210  # 15 windows


def make_export(folder: Path, name: str) -> None:
    """Train a tiny model for two steps, export it, and note what it speaks greedily."""
    folder.mkdir(parents=True)
    with chdir(folder):
        small = options(name, write_release(folder / "release", name), write_manifest(folder, name))
        assert main(["fit", "--config", name, *small, "--trainer.max_steps=2"]) == 0
        assert main(["export", "--ckpt_path", f"runs/{name}", "--out", "out"]) == 0
    model = wand.load(folder / "out")
    own = model.backbone.sampling.repetition_penalty
    spoken = [speak(model, name, text, penalty) for penalty in (own, 1.2) for text in TEXTS]
    (folder / "spoken.json").write_text(json.dumps(spoken))


def speak(model: Synthesizer, name: str, text: str, penalty: float) -> dict[str, object]:
    """The ids of a prompt and of its speech with a repetition penalty, stop included."""
    backbone = model.backbone
    torch.manual_seed(len(text))
    conditioning = backbone.conditioner(text, test_causal_lm.voice(name))
    batch = make_batch(backbone.conditioner, backbone.layout, [conditioning])
    sampling = Sampling(temperature=0, repetition_penalty=penalty)
    (one,) = generate(model.decoder, batch, rules=StopRules(LIMIT), sampling=sampling)
    ids = backbone.speech_ids[one.columns[:, 0]].tolist()
    if one.reason is StopReason.STOP_TOKEN:
        ids.append(int(backbone.speech_ids[backbone.layout.stop_id]))
    return {"prompt": conditioning["ids"].tolist(), "speech": ids, "penalty": penalty, "limit": LIMIT}


if __name__ == "__main__":
    test_causal_lm.SIZES.update(HEADS)
    for model_name in ("llasa", "neutts", "orpheus"):
        make_export(Path(sys.argv[1]).resolve() / model_name, model_name)
