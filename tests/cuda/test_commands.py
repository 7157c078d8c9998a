"""The commands on the device: fit, synthesize, streams and benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

import wand
from tests.benchmark.tiny_shapes import tiny_shape
from tests.workplace import Workplace
from wand.benchmark.shapes import SHAPES
from wand.cli import main
from wand.speech.speaking import SpeakOptions

REFERENCE = "runs/quickstart/samples/0-reference.wav"


@pytest.fixture(scope="module")
def trained(
    device: torch.device,
    tmp_path_factory: pytest.TempPathFactory,
    enter: Callable[[Path, pytest.MonkeyPatch], Workplace],
) -> Workplace:
    """A workplace with a run that was trained on the device, with its closing test."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        workplace = enter(tmp_path_factory.mktemp("cuda"), monkeypatch)
        accelerator = "gpu" if device.type == "cuda" else "cpu"
        where = [f"--trainer.accelerator={accelerator}", "--trainer.devices=1", "--trainer.max_steps=4"]
        workplace.run("fit", "--config", "quickstart", *workplace.fit, *where)
    return workplace


@pytest.fixture
def run(trained: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(trained.folder)
    return trained


def test_a_fit_ends_with_its_table(run: Workplace) -> None:
    (table,) = Path("runs/quickstart").rglob("table.json")
    assert {row["system"]["name"] for row in json.loads(table.read_text())["rows"]} >= {"teacher", "student"}


def test_a_run_is_resumed(run: Workplace, device: torch.device) -> None:
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    where = [f"--trainer.accelerator={accelerator}", "--trainer.devices=1", "--trainer.max_steps=6"]
    accept = "--curriculum.accept_change=true"
    run.run("fit", "--config", "quickstart", *run.fit, *where, accept, "--ckpt_path", "runs/quickstart", "--name", "on")


@pytest.mark.parametrize("system", ["student", "teacher"])
def test_synthesize(run: Workplace, device: torch.device, system: str, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    where = ["--ckpt_path", "runs/quickstart", "--device", str(device), "--system", system]
    run.run("synthesize", "every word.", *where, "--reference", REFERENCE, "--max_seconds", "0.5", "--out", str(out))
    assert 0 < soundfile.info(out).duration <= 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_stream_is_the_speech(run: Workplace, device: torch.device, dtype: torch.dtype) -> None:
    speaker = wand.load("runs/quickstart", device=device, dtype=dtype)
    options = SpeakOptions(max_seconds=1.0, first_seconds=0.1, chunk_seconds=0.3)
    (speech,) = speaker.generate("every word.", REFERENCE, options)
    parts = list(speaker.stream("every word.", REFERENCE, options))
    assert torch.equal(torch.cat([part.codes for part in parts], dim=1), speech.codes)
    sound = torch.cat([part.audio for part in parts])
    assert speech.audio is not None
    torch.testing.assert_close(sound, speech.audio, rtol=1e-3, atol=1e-3)


def test_benchmark_of_a_run(run: Workplace, device: torch.device) -> None:
    small = ["--seconds", "0.4", "--batch", "1", "2", "--repeats", "2"]
    run.run("benchmark", "--ckpt_path", "runs/quickstart", "--device", str(device), *small)
    report = json.loads(Path("runs/quickstart/benchmark/benchmark.json").read_text())
    measured = [step for step in report["steps"] if step["milliseconds"] is not None]
    assert {step["path"] for step in measured} >= {"lean", "transformers"}
    assert report["speech"]["codec_first"] > 0


@pytest.mark.parametrize("name", ["cosyvoice2", "indextts", "sparktts"])
def test_benchmark_of_a_shape(device: torch.device, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, name, tiny_shape(name))
    small = ["--seconds", "0.4", "--batch", "1", "--repeats", "2", "--dtype", "bfloat16"]
    assert main(["benchmark", "--shape", name, "--device", str(device), "--out", str(tmp_path), *small]) == 0
    steps = json.loads((tmp_path / "benchmark.json").read_text())["steps"]
    assert any(step["path"] == "lean" and step["milliseconds"] is not None for step in steps)
