"""Wrong settings get one clear line, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.workplace import ESPEAK, Workplace
from wand.cli import main


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command prints last."""
    try:
        status = main(arguments)
    except SystemExit as stop:  # the parser's own errors
        status = int(stop.code or 0)
    assert status == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--config", "quickstrat"], ["'quickstrat'", "ablations/kl-only", "quickstart"], id="config"),
        pytest.param(["--model.windwo=3"], ["windwo"], id="misspelt-key"),
        pytest.param(["--model.window=0"], ["window 0"], id="window-zero"),
        pytest.param(["--model.window=-4"], ["window -4"], id="window-negative"),
        pytest.param(["--model.window=3"], ["window 3", "delay of 7"], id="window-within-delay"),
        pytest.param(["--model.window=160"], ["start 128", "final window 160"], id="start-below-window"),
        pytest.param(["--curriculum.schedule.tau_start=20"], ["tau_start 20", "tau_end 16", "swap"], id="tau-swapped"),
        pytest.param(["--model.loss.skew=1"], ["skew 1"], id="skew"),
        pytest.param(["--model.loss.kd_weight=0", "--model.loss.ce_weight=0"], ["nothing to learn"], id="weights"),
        pytest.param(["--model.teacher=null", "--model.loss.ce_weight=0"], ["nothing to learn"], id="no-teacher"),
        pytest.param(
            ["--model.loss.codebook_weights=[1, 1]"], ["codebook_weights [1.0, 1.0]", "8 weights"], id="codebooks"
        ),
        pytest.param(["--model.teacher=self"], ["EncodecLM has no adapters", "`copy`"], id="self-teacher"),
        pytest.param(["--model.loss.divergence=kl"], ["divergence 'kl' is unknown", "forward_kl"], id="divergence"),
        pytest.param(["--model.loss.divergence=no.such.kl"], ["no.such.kl", "cannot be imported"], id="own-divergence"),
        pytest.param(["--model.optimizer.learning_rate=0"], ["learning_rate 0", "not positive"], id="learning-rate"),
        pytest.param(
            ["--model.learning_rate=1e-3"],
            ["model.learning_rate is now model.optimizer.learning_rate"],
            id="old-option",
        ),
        pytest.param(["--model.backbone=CosyVoice9"], ["CosyVoice9", "EncodecLM"], id="backbone"),
        pytest.param(["--model.backbone.init_args.pretrained=none/there"], ["none/there"], id="pretrained"),
        pytest.param(
            ["--model.teacher=null", "--model.loss.ce_weight=1", "--checkpoint.monitor=val/agreement"],
            ["checkpoint.monitor val/agreement", "teacher"],
            id="monitor",
        ),
        pytest.param(
            ["--recogniser=null", "--checkpoint.monitor=val/cer"],
            ["val/cer needs a recogniser", "--recogniser embedded"],
            id="no-recogniser",
        ),
        pytest.param(
            ["--recogniser=null", "--checkpoint.monitor=val/ce"],
            ["val/ce with checkpoint.mode max", "set checkpoint.mode min"],
            id="mode",
        ),
        pytest.param(
            ["--checkpoint.monitor=val/cer", "--checkpoint.mode=min", "--speech.sentences=0"],
            ["val/cer needs sentences", "speech.sentences"],
            id="no-sentences",
        ),
        pytest.param(["--checkpoint.save_top_k=3"], ["save_top_k 3", "'best'", "'best-{step}'"], id="one-name"),
        pytest.param(["--recogniser=nowhere/whisper"], ["nowhere/whisper", "cannot be opened"], id="recogniser"),
        pytest.param(["--data.batch_size=0"], ["batch_size 0"], id="batch-size"),
        pytest.param(["--data.columns_per_batch=-1"], ["columns_per_batch -1"], id="columns"),
        pytest.param(["--last_checkpoint.every_n_train_steps=-1"], ["every_n_train_steps=-1"], id="lightnings-own"),
        *[
            pytest.param([f"--name={name}"], [f"--name '{name}'", "folder inside runs/"], id=f"name-{number}")
            for number, name in enumerate(["", "..", ".", "/tmp/x", "a/../../b", "a//b", "a/"])
        ],
        pytest.param(
            ["--trainer.max_epochs=-1", "--trainer.max_time=00:00:01:00"],
            ["trainer.max_epochs -1 has no end", "trainer.max_steps"],
            id="endless",
        ),
        pytest.param(["--trainer.max_steps=0"], ["trainer.max_steps 0 trains nothing"], id="no-steps"),
        pytest.param(["--trainer.max_epochs=0"], ["trainer.max_epochs 0 trains nothing"], id="no-epochs"),
        pytest.param(["--ckpt_path=runs/other", "--ckpt_path=runs/none"], ["runs/none"], id="last-checkpoint"),
        pytest.param(["--ckpt_path=runs/none"], ["no checkpoint at runs/none"], id="checkpoint"),
    ],
)
def test_bad_settings(
    workplace: Workplace, options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    last = refused(["fit", "--config", "quickstart", *workplace.fit, *options], capsys)
    for word in words:
        assert word in last
    assert not Path("runs").exists(), "a run that never began leaves no folder"


def test_checkpoint_of_another_backbone(run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    shape = "--model.backbone.init_args.architecture.hidden_size=16"
    none = "--model.backbone.init_args.pretrained=null"
    alone = ["--model.teacher=null", "--model.loss.ce_weight=1"]
    last = refused(["validate", "--ckpt_path", "runs/quickstart", none, shape, *alone], capsys)
    assert "another backbone" in last
    assert "hidden_size is 32, not 16" in last


@pytest.mark.parametrize("kind", ["damaged", "foreign", "code"])
def test_files_that_are_no_checkpoint(workplace: Workplace, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("bad.ckpt")
    if kind == "damaged":
        path.write_bytes(b"PK\x03\x04 half a file")
    else:
        torch.save({"state_dict": {}} if kind == "foreign" else {"hyper_parameters": main}, path)
    speak = ["synthesize", "yes.", "--ckpt_path", str(path), "--reference", "none.wav"]
    last = refused(speak, capsys)
    assert "bad.ckpt" in last


def test_a_fit_from_weights_alone(run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = torch.load("runs/quickstart/checkpoints/last.ckpt", weights_only=True)
    few = {name: whole[name] for name in whole.keys() - {"optimizer_states", "lr_schedulers", "callbacks"}}
    torch.save(few, tmp_path / "few.ckpt")
    last = refused(["fit", "--config", "quickstart", *run.fit, f"--ckpt_path={tmp_path / 'few.ckpt'}"], capsys)
    assert "few.ckpt holds only weights" in last


def test_an_utterance_above_the_columns_of_a_batch(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    last = refused(["fit", "--config", "quickstart", *workplace.fit, "--data.columns_per_batch=50"], capsys)
    assert "data.columns_per_batch 50 cannot hold utterance" in last
    assert "data.max_seconds" in last


def test_window_longer_than_the_speech_warns(workplace: Workplace) -> None:
    wide = ["--model.window=4000", "--curriculum.schedule=null", "--trainer.max_steps=1"]
    with pytest.warns(UserWarning, match="hides nothing"):
        workplace.run("fit", "--config", "quickstart", *workplace.fit, *wide)


def test_missing_espeak_says_what_to_install(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setenv("WAND_CACHE", str(workplace.folder / "empty"))
    assert "wand-tts[demo]" in refused(["fit", "--config", "quickstart", *ESPEAK, *workplace.data], capsys)
