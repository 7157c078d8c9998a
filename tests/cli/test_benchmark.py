"""`wand benchmark`, from the command line to its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmark.tiny_shapes import tiny_shape
from tests.workplace import Workplace
from wand.benchmark.shapes import SHAPES
from wand.cli import main
from wand.kv_cache.sizes import kv_bytes

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
