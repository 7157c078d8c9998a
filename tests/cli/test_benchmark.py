"""`wand benchmark`, from the command line to its files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import MixtralConfig

from tests.backbones.test_causal_lm import write_model
from tests.benchmark.tiny_shapes import tiny_shape
from tests.workplace import Workplace
from wand.attention import AttentionWindow
from wand.benchmark.cost import cache_bytes
from wand.benchmark.shapes import SHAPES
from wand.cli import main
from wand.cli.configs import shipped_configs
from wand.kv_cache.sizes import kv_bytes
from wand.speech.synthesizer import load

SMALL = ("--seconds", "0.4", "--batch", "1", "--repeats", "1", "--threads", "1")
# What a checkout needs beyond torch and transformers, for everything but this.
OTHERS = (
    "lightning", "jsonargparse", "omegaconf", "rich", "soundfile", "soxr", "torchmetrics", "tensorboard", "matplotlib",
)  # fmt: skip


def test_a_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(SHAPES, "cosyvoice2", tiny_shape("cosyvoice2"))
    assert main(["benchmark", "--shape", "cosyvoice2", "--dtype", "bfloat16", "--out", str(tmp_path), *SMALL]) == 0
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert (report["prefix"], report["window"], report["dtype"]) == (7, 4, "bfloat16")
    paths = {(step["window"], step["path"]): step["milliseconds"] for step in report["steps"]}
    assert set(paths) == {
        (None, "transformers"),
        (None, "generate()"),
        (None, "lean"),
        (4, "transformers"),
        (4, "lean"),
    }
    assert all(milliseconds > 0 for milliseconds in paths.values())
    assert len(report["curve"]) == 9 * len(paths)
    assert (tmp_path / "latency.png").is_file()
    assert "CosyVoice 2-0.5B (random weights), bfloat16" in capsys.readouterr().out


def test_a_run_with_its_codec(run: Workplace) -> None:
    run.run("benchmark", "--ckpt_path", "runs/quickstart", *SMALL)
    report = json.loads(Path("runs/quickstart/benchmark/benchmark.json").read_text())
    assert report["window"] == 8
    assert report["tokens_a_column"] == 8
    assert report["speech"]["codec_first"] > 0
    assert next(s["reason"] for s in report["steps"] if s["path"] == "generate()").startswith(
        "transformers' generate()"
    )


def test_windows_by_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "cosyvoice2", tiny_shape("cosyvoice2"))
    file = tmp_path / "windows.yaml"
    file.write_text("default: 4\nlayers: {1: 6}\n")
    shown = ["--shape", "cosyvoice2", "--out", str(tmp_path), "--window", str(file), *SMALL]
    assert main(["benchmark", *shown]) == 0
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert report["window"] == [4, 6]
    (step,) = (step for step in report["steps"] if step["system"] == "windows 4 to 6, lean")
    config = tiny_shape("cosyvoice2").build("meta").decoder.config
    assert step["kv_bytes"] == kv_bytes(config, [7 + 4, 7 + 6])
    assert main(["benchmark", *shown, "--window", "wide"]) == 2


def streams(tmp_path: Path, *options: str) -> dict[str, Any]:
    """What ``--capacity`` writes for a card of a GiB."""
    out = tmp_path / "streams"
    assert main(["benchmark", "--capacity", "--memory", "1", "--out", str(out), *options]) == 0
    content: dict[str, Any] = json.loads((out / "capacity.json").read_text())
    return content


def test_the_capacity_of_a_run_and_of_its_export(run: Workplace, tmp_path: Path) -> None:
    expected = load("runs/quickstart").backbone
    of_run = streams(tmp_path, "--ckpt_path", "runs/quickstart")
    run.run("export", "--ckpt_path", "runs/quickstart", "--out", str(tmp_path / "export"))
    of_export = streams(tmp_path, "--ckpt_path", str(tmp_path / "export"))
    for found in (of_run, of_export):
        assert found["windows"] == 8
        assert found["model"]["weight_bytes"] == sum(weight.nbytes for weight in expected.parameters())
        assert [line["seconds"] for line in found["lines"]] == [10, 30, 60, 300, 600]
        for line in found["lines"]:
            for part, windows in (("full", AttentionWindow()), ("window", AttentionWindow(8))):
                assert line[part]["bytes"] == cache_bytes(expected, 192, line["seconds"], windows)
    assert of_run["lines"] == of_export["lines"]


def test_the_capacity_of_a_config(tmp_path: Path) -> None:
    """Of wand, and of transformers without weights: the same model."""
    folder = tmp_path / "pretrained"
    (folder / "kept").mkdir(parents=True)
    write_model(folder, "llasa", tied=True)
    shutil.copy(folder / "config.json", folder / "kept")
    values = OmegaConf.load(shipped_configs()["llasa"])
    values.model.backbone.init_args.pretrained = str(folder)
    OmegaConf.save(values, tmp_path / "llasa.yaml")
    asked = ["--dtype", "bfloat16", "--prefix", "40", "--seconds", "2", "8"]
    by_wand = streams(tmp_path, "--config", str(tmp_path / "llasa.yaml"), *asked)
    config = str(folder / "kept" / "config.json")
    stock = streams(tmp_path, "--config", config, "--columns_per_second", "50", "--window", "64", *asked)
    assert by_wand["windows"] == stock["windows"] == 64
    assert by_wand["lines"] == stock["lines"]
    assert by_wand["cache_bytes"] == stock["cache_bytes"]
    # 2 layers, 2 key/value heads of 8, bfloat16: 128 bytes a column.
    assert [line["window"]["bytes"] for line in stock["lines"]] == [128 * (40 + 64)] * 2
    assert [line["full"]["bytes"] for line in stock["lines"]] == [128 * (40 + 100), 128 * (40 + 400)]


def test_the_capacity_of_a_config_with_experts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    MixtralConfig(**shape, intermediate_size=32, num_local_experts=4, vocab_size=100).save_pretrained(tmp_path)
    asked = ["--config", str(tmp_path / "config.json"), "--columns_per_second", "50", "--memory", "0.001"]
    found = {dtype: streams(tmp_path, *asked, "--dtype", dtype) for dtype in ("float32", "bfloat16")}
    # Attention 3 * 64^2, router 4 * 64, experts 4 * 3 * 64 * 32, norms 2 * 64 by layer; embedding, norm and head.
    weights = 2 * (3 * 64**2 + 4 * 64 + 4 * 3 * 64 * 32 + 2 * 64) + 64 + 2 * 100 * 64
    assert [one["model"]["weight_bytes"] for one in found.values()] == [4 * weights, 2 * weights]
    assert found["float32"]["lines"][-1]["full"]["streams"] == 0
    assert "inf" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"num_hidden_layers": "x"}, "'num_hidden_layers' expected int"),
        ({"num_attention_heads": 0}, "by zero"),
        # Its code is not run, and nobody is asked.
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}, "contains custom code"),
    ],
)
def test_a_config_with_a_wrong_entry(
    entries: dict[str, object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", **entries}))
    assert main(["benchmark", "--capacity", "--config", str(file), "--columns_per_second", "50"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{file} is not the config of a causal language model: " in error
    assert named in error


def test_the_capacity_of_a_shape_needs_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = streams(tmp_path, "--shape", "indextts", "--dtype", "bfloat16", "--memory", "24")
    assert [line["seconds"] for line in found["lines"]] == [10, 30]  # its learned positions end after 32 s
    printed = capsys.readouterr().out
    assert "Streams at the same time on a card of 24.00 GiB" in printed
    assert "IndexTTS 1.5, bfloat16" in printed


def test_nothing_but_torch_and_transformers_is_needed(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({OTHERS!r}))\n"
        "from tests.benchmark.tiny_shapes import SHAPES, SIZES, tiny_shape\n"
        "SHAPES.update({name: tiny_shape(name) for name in SIZES})\n"
        "from wand.cli import main\n"
        f"sys.exit(any(main(['benchmark', '--shape', name, '--out', {str(tmp_path)!r}, *{SMALL!r}]) for name in SIZES))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("| at | system |") == 3
    assert "matplotlib is not installed" in answer.stdout
    assert (tmp_path / "benchmark.json").is_file()


def test_the_papers_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--paper"]) == 0
    printed = capsys.readouterr().out
    assert all(figure in printed for figure in ("38.44", "13.01", "48.12", "31.74"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--shape", "cosyvoice2", "--repeats", "0"], "--repeats 0"),
        (["--shape", "cosyvoice2", "--seconds", "10", "-1"], "--seconds -1"),
        (["--shape", "cosyvoice2", "--batch", "0"], "--batch 0"),
        (["--ckpt_path", "nowhere"], "nowhere"),
        (["--shape", "cosyvoice2", "--memory", "80"], "--memory needs --capacity"),
        (["--config", "quickstart"], "--config needs --capacity"),
        (["--shape", "cosyvoice2", "--capacity", "--batch", "2"], "--batch has no effect with --capacity"),
        (["--shape", "cosyvoice2", "--capacity", "--memory", "1"], "take 1.88 of 0.90 GiB"),
        (["--shape", "cosyvoice2", "--capacity", "--share", "1.5"], "--share 1.5"),
        (["--paper", "--capacity"], "instead of --paper"),
        (["--config", "nowhere/config.json", "--capacity", "--columns_per_second", "50"], "nowhere/config.json"),
        (["--config", "nowhere/config.json", "--capacity"], "give --columns_per_second"),
        pytest.param(
            ["--shape", "cosyvoice2", "--device", "cuda"],
            "device 'cuda' cannot be used",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_is_refused(options: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error
