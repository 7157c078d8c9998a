"""Every adapter's shipped config, from files as they are released (tiny, random) to an export that speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import wand
from tests.backbones import test_causal_lm, test_cosyvoice, test_spark_tts
from wand.checkpoints import read_checkpoint
from wand.cli import main
from wand.conditioning import Reference
from wand.data.manifest import ManifestCorpus
from wand.decoding.sampling import Sampling

# Config: codes of a frame, rows of codes, and what else a line of its manifest has.
SHAPES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "cosyvoice2": (48, 1, {}),
    "sparktts": (40, 1, {"global_codes": [1, 2, 3]}),
    "llasa": (test_causal_lm.CODES, 1, {}),
    "neutts": (test_causal_lm.CODES, 1, {}),
    "orpheus": (test_causal_lm.CODES, 7, {}),
}


def write_release(folder: Path, name: str) -> Path:
    if name == "cosyvoice2":
        return test_cosyvoice.write_release(folder, test_cosyvoice.GOLDEN.state)
    if name == "sparktts":
        return test_spark_tts.write_release(folder, test_spark_tts.GOLDEN.state)
    return test_causal_lm.write_model(folder, name, tied=False)


def write_manifest(folder: Path, name: str) -> Path:
    size, rows, extra = SHAPES[name]
    torch.manual_seed(0)
    texts = ["so it is.", "why not", "hello there", "good morning"]
    lines = []
    for i in range(10):
        codes = torch.randint(0, size, (rows, 50 + 4 * i if rows == 1 else 8 + i)).tolist()
        split = {7: "validation", 8: "validation", 9: "test"}.get(i, "train")
        lines.append({"text": texts[i % 4], "speaker": "tara", "codes": codes, "split": split, **extra})
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def options(name: str, release: Path, manifest: Path) -> list[str]:
    """What makes a shipped config small."""
    model = "--model.backbone.init_args"
    chosen = [f"{model}.pretrained={release}", "--data.source=wand.data.manifest.ManifestCorpus"]
    chosen += [f"--data.source.init_args.path={manifest}", "--data.codec=null", "--data.workers=0"]
    chosen += ["--data.batch_size=4", "--trainer.enable_progress_bar=false", "--trainer.val_check_interval=1.0"]
    if name == "orpheus":
        books, size = (0, 1, 2, 2, 1, 2, 2), test_causal_lm.CODES
        firsts = [10 + size * slot for slot in range(7)]
        slots = [
            {"pattern": "<custom_token_{}>", "count": size, "first": first, "codebook": book}
            for first, book in zip(firsts, books, strict=True)
        ]
        chosen.append(f"{model}.format.speech_tokens={json.dumps(slots)}")
    return [*chosen, "--model.window=14"]


@pytest.mark.parametrize("name", SHAPES)
def test_a_released_model_is_adapted_resumed_exported_and_speaks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAND_CACHE", str(tmp_path / "cache"))
    release, manifest = write_release(tmp_path / "release", name), write_manifest(tmp_path, name)
    small = options(name, release, manifest)
    assert main(["prepare", "--config", name, *small]) == 0
    assert main(["fit", "--config", name, *small, "--trainer.max_steps=2"]) == 0
    run = Path("runs") / name
    assert read_checkpoint(run)["global_step"] == 2
    more = ["--trainer.max_steps=4", "--trainer.max_epochs=4", "--curriculum.accept_change=true"]
    assert main(["fit", "--ckpt_path", str(run), *more]) == 0
    assert read_checkpoint(run)["global_step"] == 4
    assert main(["test", "--ckpt_path", str(run)]) == 0
    assert "student" in (run / "test" / "table.md").read_text()
    assert main(["export", "--ckpt_path", str(run), "--out", "out"]) == 0
    corpus = ManifestCorpus(str(manifest))
    (utterance,) = corpus.utterances("test")
    own = corpus.codes(utterance)
    voice = Reference(own.codes, None, utterance.text, own.global_codes, utterance.speaker)
    spoken = [
        wand.load(path).generate("no", voice, sampling=Sampling(temperature=0), max_seconds=2)[0].codes
        for path in ("out", run / "checkpoints" / "best.ckpt")
    ]
    assert torch.equal(*spoken)
    # The released files again, so that the original's programs open them.
    released = [path.relative_to(release) for path in release.rglob("*") if path.suffix in (".pt", ".safetensors")]
    assert released
    assert all((Path("out") / path).is_file() for path in released)
