"""``wand export`` and `wand.load`: a student in its original's files, and speech from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

import wand
from tests.backbones.test_causal_lm import make_model, shipped_format, voice
from tests.workplace import Workplace
from wand.attention import AttentionWindow
from wand.backbones.causal_lm import CausalSpeechLM
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.files.audio import write_audio
from wand.model.backbone import Backbone
from wand.model.batch import make_batch
from wand.model.sampling import Sampling
from wand.runs.checkpoints import ABOUT, load_backbone_and_settings
from wand.runs.export import export
from wand.runs.speech_facts import NAME
from wand.speech.speaking import SpeakOptions
from wand.training.module import WandModule


def save_run(backbone: Backbone, folder: Path, window: int | list[int] | None = 8) -> Path:
    """A run folder whose student is `backbone`."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    trainer.strategy.connect(WandModule(backbone, window=window))
    trainer.save_checkpoint(folder / "checkpoints" / "best.ckpt")
    return folder


@pytest.fixture
def student(tmp_path: Path) -> CausalSpeechLM:
    made = make_model(tmp_path / "original", "llasa")
    with torch.no_grad():
        made.decoder.get_input_embeddings().weight.mul_(1.5)
    return made


@pytest.fixture
def exported(student: CausalSpeechLM, tmp_path: Path) -> Path:
    export(save_run(student, tmp_path / "run"), tmp_path / "out")
    return tmp_path / "out"


def test_an_export_given_as_a_run_is_refused_with_the_way_to_open_it(exported: Path) -> None:
    with pytest.raises(ValueError, match=r"is an export, not a run: open it in Python with wand\.load\("):
        load_backbone_and_settings(exported)


def test_an_export_speaks_windowed_what_the_student_does(student: CausalSpeechLM, exported: Path) -> None:
    loaded = wand.load(exported)
    assert loaded.window == AttentionWindow(8)
    reference, greedy = voice("llasa"), Sampling(temperature=0)
    spoken = loaded.generate(["hello.", "no"], reference, SpeakOptions(greedy, max_seconds=1))
    batch = make_batch(
        student.conditioner, student.layout, [student.conditioner(text, reference) for text in ("hello.", "no")]
    )
    expected = generate(Decoder(student, AttentionWindow(8)), batch, rules=StopRules(50), sampling=greedy)
    assert [one.codes.tolist() for one in spoken] == [one.codes.tolist() for one in expected]
    assert all(one.audio is None for one in spoken)


def test_the_files_say_what_they_are(exported: Path) -> None:
    about = json.loads((exported / ABOUT).read_text())
    assert about["window"] == 8
    assert "last `window` columns" in about["prefix_rule"]
    assert about["training"]["settings"]["loss"]["kd_weight"] == 1
    assert len(about["digest"]) == 64
    config = json.loads((exported / "config.json").read_text())
    assert config["rswa_window"] == 8
    card = (exported / "README.md").read_text()
    assert "Without its window" in card
    assert "licence" in card.lower()
    assert "| serving engines | vLLM and others open `.`; `speech.json` has the token ids" in card
    again = CausalSpeechLM(pretrained=str(exported), format=shipped_format("llasa"))
    again.load_pretrained()


def test_other_weights_under_an_exports_name_are_refused(student: CausalSpeechLM, exported: Path) -> None:
    with torch.no_grad():
        next(student.parameters()).add_(1)
    student.save_pretrained(exported)
    with pytest.raises(ValueError, match="digest has changed"):
        wand.load(exported)


def test_a_damaged_description_is_refused(exported: Path) -> None:
    (exported / ABOUT).write_text('{"window": 8}')
    with pytest.raises(ValueError, match=ABOUT):
        wand.load(exported)


def test_a_folder_that_holds_something_is_not_written_over(student: CausalSpeechLM, tmp_path: Path) -> None:
    run = save_run(student, tmp_path / "run")
    with pytest.raises(ValueError, match="not empty"):
        export(run, tmp_path / "original")


def test_a_run_without_a_window_has_nothing_to_export(student: CausalSpeechLM, tmp_path: Path) -> None:
    run = save_run(student, tmp_path / "run", window=None)
    with pytest.raises(ValueError, match="no window"):
        export(run, tmp_path / "out")


def test_a_sound_needs_a_codec(exported: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "voice.wav", torch.rand(16_000), 16_000)
    with pytest.raises(ValueError, match=r"data\.codec"):
        wand.load(exported).generate("hello.", tmp_path / "voice.wav")


def test_last_is_the_best_checkpoint_of_the_newest_run(
    student: CausalSpeechLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = save_run(student, tmp_path / "runs" / "mine")
    with torch.no_grad():
        student.decoder.get_input_embeddings().weight.mul_(2)
    save_run(student, tmp_path / "newer")
    shutil.copy(tmp_path / "newer/checkpoints/best.ckpt", run / "checkpoints" / "last.ckpt")
    export("last", tmp_path / "of-last")
    export(run, tmp_path / "of-run")
    export(run / "checkpoints" / "last.ckpt", tmp_path / "of-file")
    weights = [wand.load(tmp_path / name).backbone.state_dict() for name in ("of-last", "of-run", "of-file")]
    assert all(torch.equal(weights[0][name], own) for name, own in weights[1].items())
    assert not all(torch.equal(weights[0][name], own) for name, own in weights[2].items())


def test_a_finished_run_is_exported_by_command_and_speaks(run: Workplace, tmp_path: Path) -> None:
    run.run("export", "--ckpt_path", "runs/quickstart", "--out", str(tmp_path / "out"), "--dtype", "float16")
    assert not (tmp_path / "out" / NAME).exists()  # several codebooks are spoken in one column
    from_run, _ = load_backbone_and_settings("runs/quickstart/checkpoints/best.ckpt")
    loaded = wand.load(tmp_path / "out")
    own, other = from_run.state_dict(), loaded.backbone.state_dict()
    assert all(torch.equal(own[name].half().float(), other[name]) for name in own)
    (spoken,) = loaded.generate("hello", "runs/quickstart/samples/0-reference.wav", SpeakOptions(max_seconds=1))
    assert spoken.audio is not None
    assert len(spoken.audio) == spoken.codes.shape[1] * 320
    (same,) = wand.load("runs/quickstart").generate(
        "hello", "runs/quickstart/samples/0-reference.wav", SpeakOptions(max_seconds=1)
    )
    assert same.audio is not None
