"""Whole runs through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.test_ablations import CHANGES
from tests.cli.test_adapters import SHAPES
from tests.workplace import Workplace
from wand import WandModule
from wand.backbones.encodec_lm import EncodecLM
from wand.cli.configs import shipped_configs
from wand.data.shards import ShardedExamples
from wand.runs.checkpoints import find_checkpoint, load_backbone_and_settings, read_checkpoint

# Without anybody who listens: a random model speaks long.
QUIET = ["--recogniser=null", "--checkpoint.monitor=val/agreement", "--checkpoint.mode=max"]


def test_every_shipped_config_is_tested() -> None:
    strategies = {"strategy/ddp", "strategy/fsdp", "strategy/ray"}  # tests/cli/test_strategies.py, test_ray.py
    assert set(shipped_configs()) == {"quickstart", *SHAPES, *OVERLAYS, *CHANGES, *strategies}


def test_quickstart_leaves_table_sound_and_checkpoints(run: Workplace) -> None:
    folder = run.folder / "runs" / "quickstart"
    table = json.loads((folder / "closing" / "table.json").read_text())
    assert [row["system"]["name"] for row in table["rows"]] == ["teacher", "untrained", "student"]
    teacher, untrained, student = table["rows"]
    assert (teacher["agreement"], teacher["kl"]) == (1.0, pytest.approx(0.0, abs=1e-6))
    assert untrained["kl"] > 0
    assert all(row["speech"]["takes"] == 3 and row["speech"]["cer"] > 0 for row in table["rows"])
    assert teacher["kv_bytes"]["60"] > 5 * student["kv_bytes"]["60"] == 5 * student["kv_bytes"]["4"]
    assert "| student | 8 |" in (folder / "closing" / "table.md").read_text()
    assert (folder / "config.yaml").is_file()
    for system in ("reference", "teacher", "student"):
        assert soundfile.info(folder / "samples" / f"0-{system}.wav").samplerate == 16_000


def test_a_run_records_its_longest_prefix_and_text(run: Workplace, cache: Path) -> None:
    backbone, _ = load_backbone_and_settings(run.folder / "runs" / "quickstart")
    shards = list(cache.glob("*/train-*.safetensors"))
    lengths, texts = [], []
    for folder in {path.parent for path in shards}:
        examples = ShardedExamples(sorted(folder.glob("train-*.safetensors")), folder.name)
        lengths.append(max(backbone.conditioner.length(example.conditioning) for example in examples))
        spans = [backbone.conditioner.text_span(example.conditioning) for example in examples]
        texts.append(max(end - begin for begin, end in spans))
    assert (backbone.longest_prefix, backbone.longest_text) in zip(lengths, texts, strict=True)


def test_tensorboard_shows_the_method(run: Workplace) -> None:
    events = EventAccumulator(str(run.folder / "runs" / "quickstart"))
    events.Reload()
    tags = events.Tags()
    losses = {"train/loss", "train/ce", "train/kd", "train/kl", "train/agreement"}
    schedule = {"train/window", "train/tau", "train/masked_share"}
    speed = {"train/columns_per_second", "train/padding", "train/memory_gib"}
    machine = {"train/grad_norm", "train/learning_rate"} | speed
    assert losses | schedule | machine <= set(tags["scalars"])
    assert {"val/agreement", "val/kl", "val/ce"} <= set(tags["scalars"])
    assert {"attention_mask", "schedule"} <= set(tags["images"])
    assert {"reference/0", "teacher/0", "student/0"} <= set(tags["audio"])
    windows = [event.value for event in events.Scalars("train/window")]
    assert windows[0] > 100
    assert windows == sorted(windows, reverse=True)


def test_checkpoint_needs_nothing_else_and_holds_no_teacher(run: Workplace, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(run.folder / "runs" / "quickstart")
    assert checkpoint["state_dict"]
    assert not [key for key in checkpoint["state_dict"] if "teacher" in key]
    away = tmp_path / "moved.ckpt"
    away.write_bytes((run.folder / "runs/quickstart/checkpoints/last.ckpt").read_bytes())
    moved = run.pretrained.rename(run.pretrained.with_name("hidden"))
    try:
        module = WandModule.load_from_checkpoint(away)
    finally:
        moved.rename(run.pretrained)
    assert module.final_window.size == 8
    for name, parameter in module.backbone.named_parameters():
        assert torch.equal(parameter, checkpoint["state_dict"][f"backbone.{name}"])


def test_measuring_after_a_fit_keeps_what_was_learned(workplace: Workplace) -> None:
    from wand.cli.training import main as run_training

    # One step and no validation: no best checkpoint is there for the closing test to read.
    cli = run_training("fit", ["--config", "quickstart", *workplace.fit, "--trainer.max_steps=1", *QUIET])
    original = EncodecLM(pretrained=str(workplace.pretrained))
    original.load_pretrained()
    assert not torch.equal(cli.model.backbone.head, original.head)
    with cli.model.teacher.weights() as teacher:
        assert torch.equal(teacher.head, original.head)


def test_a_codebook_without_weight_teaches_nothing(workplace: Workplace) -> None:
    from wand.cli.training import main as run_training

    options = ["--trainer.max_steps=1", "--model.optimizer.weight_decay=0"]
    options.append("--model.loss.codebook_weights=[1, 0.5, 0, 0, 0, 0, 0, 0]")
    cli = run_training("fit", ["--config", "quickstart", *workplace.fit, *options, *QUIET])
    original = EncodecLM(pretrained=str(workplace.pretrained))
    original.load_pretrained()
    changed = [not torch.equal(own, old) for own, old in zip(cli.model.backbone.head, original.head, strict=True)]
    assert changed == [True] * 2 + [False] * 6


def test_a_run_never_overwrites_another(workplace: Workplace) -> None:
    once = ("fit", "--config", "quickstart", *workplace.fit, "--trainer.max_steps=1", *QUIET)
    workplace.run(*once)
    before = (workplace.folder / "runs/quickstart/checkpoints/last.ckpt").read_bytes()
    workplace.run(*once)
    assert (workplace.folder / "runs/quickstart-2/checkpoints/last.ckpt").is_file()
    assert (workplace.folder / "runs/quickstart/checkpoints/last.ckpt").read_bytes() == before


def test_a_name_may_have_parts(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    once = ("fit", "--config", "quickstart", *workplace.fit, "--trainer.max_steps=1", "--name=exp/one", *QUIET)
    workplace.run(*once)
    workplace.run(*once)
    assert {folder.name for folder in Path("runs/exp").iterdir()} == {"one", "one-2"}
    assert find_checkpoint("last") == Path("runs/exp/one-2/checkpoints/last.ckpt")


@pytest.mark.parametrize("command", ["validate", "test"])
def test_measuring_takes_the_config_of_the_run(
    run: Workplace, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.run(command, "--ckpt_path", "runs/quickstart", "--trainer.enable_progress_bar=false")
    printed = capsys.readouterr().out
    assert ("val/agreement" if command == "validate" else "untrained") in printed


def test_what_the_user_types_wins_over_the_checkpoint(run: Workplace) -> None:
    from wand.cli.training import main as run_training

    with pytest.warns(UserWarning, match=r"model.window was 8 in the checkpoint and is 12 now"):
        cli = run_training("validate", ["--ckpt_path=last", "--model.window=12", "--trainer.enable_progress_bar=false"])
    assert cli.model.final_window.size == 12


OVERLAYS = {
    "ablations/ce-only": lambda module, curriculum: module.settings.loss.kd_weight == 0,
    "ablations/both": lambda module, curriculum: module.settings.loss.ce_weight == module.settings.loss.kd_weight == 1,
    "ablations/no-curriculum": lambda module, curriculum: curriculum.schedule is None,
    "lora": lambda module, curriculum: module.settings.lora is not None and module.teacher.shares_weights,
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_change_one_thing(workplace: Workplace, overlay: str) -> None:
    from wand.cli.training import main as run_training

    options = ["--trainer.max_steps=1", *QUIET]
    cli = run_training("fit", ["--config", "quickstart", "--config", overlay, *workplace.fit, *options])
    changed = {name for name, is_changed in OVERLAYS.items() if is_changed(cli.model, cli.config_init.fit.curriculum)}
    assert changed == {overlay}


def test_the_full_table(run: Workplace, tmp_path: Path) -> None:
    import shutil

    shutil.copytree("runs/quickstart", tmp_path / "runs" / "full")
    run.run(
        "test",
        f"--ckpt_path={tmp_path}/runs/full",
        "--trainer.enable_progress_bar=false",
        "--table.full.windows=[16]",
        "--table.full.sounds=2",
        "--table.full.pictures=1",
    )
    folder = tmp_path / "runs" / "full" / "test"
    table = json.loads((folder / "table.json").read_text())
    names = ["teacher", "untrained", "untrained-16", "student", "student-full"]
    assert [row["system"]["name"] for row in table["rows"]] == names
    for row in table["rows"]:
        speech = row["speech"]
        assert (speech["sentences"], speech["takes"]) == (3, 3 if row["system"]["name"] == "untrained-16" else 6)
        assert speech["cer_interval"][0] <= speech["cer"] <= speech["cer_interval"][1]
        assert speech["cer_unseen"] is None  # the corpus has no such voice
    takes = [json.loads(line) for line in (folder / "takes.jsonl").read_text().splitlines()]
    assert len(takes) == (len(names) * 2 - 1) * 3
    assert {take["seed"] for take in takes} == {0, 1}
    assert (folder / "spectrograms.png").stat().st_size > 5000
    recorded = list((folder / "sounds").glob("*-recorded.wav"))
    assert len(recorded) == 2
    assert "| student-full | full |" in (folder / "table.md").read_text()
