"""The recipe runs and resumes; the recogniser that ships is as good as its card says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recipes.recogniser.train import distorted
from wand.recognition import EmbeddedRecogniser

ROOT = Path(__file__).parents[2]
ASSET = ROOT / "wand" / "assets" / "recogniser"


def run_recipe(out: Path, steps: int) -> None:
    options = "--hours 0.01 --batch 4 --save-every 2 --sentences 4 --threads 1"
    command = [sys.executable, "-m", "recipes.recogniser.train", "--out", str(out), "--steps", str(steps)]
    result = subprocess.run([*command, *options.split()], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_the_recipe_runs_and_resumes(tmp_path: Path) -> None:
    run_recipe(tmp_path / "run", steps=2)
    run_recipe(tmp_path / "run", steps=3)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3
    export = tmp_path / "run" / "export"
    assert "3 steps of 4 utterances" in (export / "README.md").read_text()
    assert EmbeddedRecogniser(export).transcribe([torch.zeros(8000)], 16_000) is not None


def test_distortion_keeps_the_words_in_place() -> None:
    import random

    audio = torch.sin(torch.arange(16_000) * 0.2) * 0.1
    changed = [distorted(audio, random.Random(i)) for i in range(20)]
    assert all(0.9 * 16_000 < len(sound) * 1.0001 < 1.12 * 16_000 for sound in changed)
    assert len({len(sound) for sound in changed}) > 10
    assert torch.equal(changed[3], distorted(audio, random.Random(3)))


def test_the_shipped_card_keeps_the_promise() -> None:
    card = (ASSET / "README.md").read_text()
    cers = {name: float(value) for name, value in re.findall(r"\| (seen voices, [a-z ]+) \| ([\d.]+) \|", card)}
    assert cers["seen voices, original"] <= 2.0
    assert cers["seen voices, through the codec"] <= cers["seen voices, original"] + 2.0
    size = float(re.search(r"([\d.]+) M parameters", card)[1])
    assert size <= 2.0
    network = EmbeddedRecogniser().network
    assert size == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6, abs=0.01)


def test_all_assets_are_small() -> None:
    files = [path for path in (ROOT / "wand" / "assets").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    folders = {path.parent for path in files if path.name == "model.safetensors"}
    assert all((folder / "README.md").is_file() for folder in folders)
