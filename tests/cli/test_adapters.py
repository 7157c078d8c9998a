"""Every adapter's shipped config, from files as they are released (tiny, random) to an export that speaks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

import wand
from tests.backbones import index_tts, test_causal_lm, test_cosyvoice, test_spark_tts
from wand.attention import AttentionWindow
from wand.cli import main
from wand.codecs.reference import Reference
from wand.codecs.worker import WorkerCodec
from wand.data.sources.manifest import ManifestCorpus
from wand.files.audio import read_audio, write_audio
from wand.model.batch import make_batch
from wand.model.sampling import Sampling
from wand.runs.checkpoints import load_backbone_and_settings, read_checkpoint
from wand.speech.speaking import SpeakOptions

# Config: codes of a frame, rows of codes, and what else a line of its manifest has.
SHAPES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "cosyvoice2": (48, 1, {}),
    "indextts": (index_tts.CODES, 1, {"audio": "voice.wav"}),
    "sparktts": (40, 1, {"global_codes": [1, 2, 3]}),
    "llasa": (test_causal_lm.CODES, 1, {}),
    "neutts": (test_causal_lm.CODES, 1, {}),
    "orpheus": (test_causal_lm.CODES, 7, {}),
}


def write_release(folder: Path, name: str) -> Path:
    if name == "cosyvoice2":
        return test_cosyvoice.write_release(folder, test_cosyvoice.GOLDEN.state)
    if name == "indextts":
        return index_tts.write_release(folder)
    if name == "sparktts":
        return test_spark_tts.write_release(folder, test_spark_tts.GOLDEN.state)
    return test_causal_lm.write_model(folder, name, tied=False)


def write_manifest(folder: Path, name: str) -> Path:
    size, rows, extra = SHAPES[name]
    torch.manual_seed(0)
    write_audio(folder / "voice.wav", 0.1 * torch.randn(24_000), 24_000)
    texts = ["so it is.", "why not", "hello there", "good morning"]
    lines = []
    for i in range(10):
        codes = torch.randint(0, size, (rows, 24 + 4 * i if rows == 1 else 8 + i)).tolist()
        split = {7: "validation", 8: "validation", 9: "test"}.get(i, "train")
        lines.append({"text": texts[i % 4], "speaker": "tara", "codes": codes, "split": split, **extra})
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def options(name: str, release: Path, manifest: Path) -> list[str]:
    """What makes a shipped config small."""
    model = "--model.backbone.init_args"
    chosen = [f"{model}.pretrained={release}", "--data.source=wand.data.sources.manifest.ManifestCorpus"]
    chosen += [f"--data.source.init_args.path={manifest}", "--data.codec=null", "--data.workers=0"]
    chosen += ["--data.batch_size=4", "--trainer.enable_progress_bar=false", "--trainer.val_check_interval=1.0"]
    chosen.append("--trainer.logger=false")  # pictures take as long as such a fit
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
    sound = corpus.audio(utterance) if name == "indextts" else None
    voice = Reference(own.codes, sound, utterance.text, own.global_codes, utterance.speaker)
    spoken = [
        wand.load(path).generate("no", voice, SpeakOptions(Sampling(temperature=0), max_seconds=2))[0].codes
        for path in ("out", run / "checkpoints" / "best.ckpt")
    ]
    assert torch.equal(*spoken)
    # The released files again, so that the original's programs open them.
    released = [
        path.relative_to(release) for path in release.rglob("*") if path.suffix in (".pt", ".pth", ".safetensors")
    ]
    assert released
    assert all((Path("out") / path).is_file() for path in released)


VOCODER = """
import numpy as np
from serve import serve

class Vocoder:
    def __init__(self, settings):
        pass
    def describe(self):
        return {"sample_rate": 24000, "frame_rate": 23.4375, "num_codebooks": 1, "codebook_size": 48,
                "needs_reference": True, "needs_latents": True}
    def encode(self, audio, sample_rate):
        return {"codes": (1000 * np.abs(audio[::1024])).astype(np.int64)[None] % 48}
    def vocode(self, latents, reference, sample_rate):
        assert reference.ndim == 1 and sample_rate == 24000
        return {"audio": np.repeat(np.tanh(latents[:, 0]) / 2, 1024).astype(np.float32)}

serve(Vocoder)
"""


def test_a_vocoder_of_latents_is_heard_on_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IndexTTS's: from sounds to codes, to a student, to sound made of the states under its window."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAND_CACHE", str(tmp_path / "cache"))
    release, script = write_release(tmp_path / "release", "indextts"), tmp_path / "vocoder.py"
    script.write_text(VOCODER)
    lines = []
    for i in range(6):
        write_audio(tmp_path / f"{i}.wav", 0.1 * torch.randn(24_000 + 1000 * i), 24_000)
        split = {4: "validation", 5: "test"}.get(i, "train")
        lines.append({"text": "so it is.", "speaker": "a", "audio": f"{i}.wav", "split": split})
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    codec = {"class_path": "wand.codecs.worker.WorkerCodec", "init_args": {"model": str(script)}}
    codec["init_args"] |= {"python": sys.executable, "release": str(release)}  # type: ignore[operator]
    small = [*options("indextts", release, tmp_path / "corpus.jsonl"), f"--data.codec={json.dumps(codec)}"]
    assert main(["fit", "--config", "indextts", *small, "--trainer.max_steps=2"]) == 0
    run = Path("runs/indextts")
    samples = {path.name for path in (run / "samples").glob("*.wav")}
    assert {"0-reference.wav", "0-teacher.wav", "0-student.wav"} <= samples
    spoken = ["synthesize", "so.", "--ckpt_path", str(run), "--reference", "0.wav", "--max_seconds", "1"]
    assert main([*spoken, "--out", "out.wav"]) == 0
    assert soundfile.info("out.wav").samplerate == 24_000
    assert main(["export", "--ckpt_path", str(run), "--out", "out"]) == 0
    vocoder = WorkerCodec(str(script), sys.executable, str(release))
    (one,) = wand.load("out", vocoder).generate("so.", "0.wav", SpeakOptions(max_seconds=1))
    backbone, settings = load_backbone_and_settings(run / "checkpoints" / "best.ckpt")
    voice = Reference(one.codes, read_audio("0.wav", 24_000))
    batch = make_batch(backbone.conditioner, backbone.layout, [backbone.conditioner("so.", voice)], [one.codes])
    latents = backbone.speech_latents(batch, AttentionWindow(settings.window))
    assert one.audio is not None
    torch.testing.assert_close(one.audio, (latents[0, :, 0].tanh() / 2).repeat_interleave(1024))
    with pytest.raises(ValueError, match="takes latents, not codes"):
        vocoder.decode(one.codes[None])
    vocoder.close()
