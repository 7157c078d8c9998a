"""Make tiny exports and what wand speaks with them. Run by wand's own environment: ``make test-vllm``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tests.backbones import test_causal_lm, test_cosyvoice
from tests.backbones.test_cosyvoice_causal_lm import prompt_ids
from tests.runs.test_export import save_run
from wand.attention import AttentionWindow
from wand.backbones.cosyvoice import CosyVoice2
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopReason, StopRules
from wand.model.backbone import Backbone
from wand.model.batch import make_batch
from wand.runs.export import export
from wand.runs.speech_facts import SpeechFacts

WINDOW = 14
LIMIT = 15 * WINDOW
TEXTS = ("no", "hello there.", "so it is, and so it was.")
FORMATS = ("llasa", "neutts", "orpheus")


def make_student(folder: Path, name: str) -> Backbone:
    """A random model with heads of 32, which vLLM's attention on a CPU needs, and with weights that make it vary."""
    if name == "cosyvoice2":
        release = test_cosyvoice.write_release(folder, test_cosyvoice.GOLDEN.state)
        config = release / "CosyVoice-BlankEN" / "config.json"
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
        config.write_text(json.dumps({**json.loads(config.read_text()), **heads}))
        student = CosyVoice2(pretrained=str(release))
        student.load_pretrained()
        return student.eval()
    model = test_causal_lm.make_model(folder, name, tied=False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    return model


def speak(student: Backbone, out: Path, text: str, voice: Reference, penalty: float) -> dict[str, object]:
    """The ids of a prompt and of its greedy speech, stop included."""
    facts, conditioning = SpeechFacts.read(out), student.conditioner(text, voice)
    batch = make_batch(student.conditioner, student.layout, [conditioning])
    sampling = replace(student.sampling, temperature=0.0, repetition_penalty=penalty)
    (one,) = generate(Decoder(student, AttentionWindow(WINDOW)), batch, rules=StopRules(LIMIT), sampling=sampling)
    rows = [id for slot in facts.slots for id in slot.code_ids]
    spoken = [rows[row] for row in one.columns[:, 0].tolist()]
    made_by_client = facts.prompt is not None
    prompt = prompt_ids(facts, out / facts.model, "", text, voice) if made_by_client else conditioning["ids"].tolist()
    bounds = student.speech_bounds(batch)
    least, most = (0, LIMIT) if bounds is None else (int(bound[0]) for bound in bounds)
    return {
        "prompt": prompt,
        "speech": spoken,
        "stopped": one.reason is StopReason.STOP_TOKEN,
        "penalty": penalty,
        "least": least,
        "most": min(most, LIMIT),
    }


def make_export(folder: Path, name: str, penalties: Sequence[float] = (1.0, 1.3)) -> None:
    """Export a student, and note what it speaks."""
    student = make_student(folder / "release", name)
    out = folder / "out"
    export(save_run(student, folder / "run", WINDOW), out, causal_lm=name == "cosyvoice2")
    voices = [replace(test_causal_lm.voice(name), text=None), test_causal_lm.voice(name)]
    asked = [(text, voice, penalty) for penalty in penalties for voice in voices for text in TEXTS]
    (folder / "spoken.json").write_text(json.dumps([speak(student, out, *one) for one in asked]))


if __name__ == "__main__":
    test_causal_lm.SIZES.update(hidden_size=128, intermediate_size=192)
    torch.manual_seed(0)
    for model_name in (*FORMATS, "cosyvoice2"):
        make_export(Path(sys.argv[1]).resolve() / model_name, model_name)
