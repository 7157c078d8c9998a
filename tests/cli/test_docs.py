"""Every command, config and snippet of the pages on adapting a model and on data, on a tiny release."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.backbones import test_cosyvoice
from tests.codecs.upstream import cosyvoice_code, write_package
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.cosyvoice.codec import CODEC
from wand.backbones.cosyvoice.conditioner import CosyVoiceArchitecture
from wand.cli import main
from wand.cli.configs import shipped_configs
from wand.files.audio import write_audio
from wand.runs.checkpoints import read_checkpoint
from wand.training.memory import step_moments
from wand.training.memory_parts import Step

DOCS = Path(__file__).parents[2] / "docs"
ADAPT, DATA = ((DOCS / f"{name}.md").read_text() for name in ("adapt-a-model", "data"))
SMALL = ["--data.workers=0", "--data.batch_size=4", "--trainer.max_steps=2"]
QUIET = ["--trainer.enable_progress_bar=false"]


def files(page: str) -> dict[str, str]:
    """The page's named blocks."""
    return dict(re.findall(r'```\w+ title="([\w.-]+)"\n(.*?)```', page, re.DOTALL))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def sound(path: Path, seconds: float) -> None:
    write_audio(path, 0.1 * torch.randn(round(24_000 * seconds)), 24_000)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pages' relative paths lead to: a tiny release, stand-ins for its program, a few sounds."""
    folder = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    release = test_cosyvoice.write_release(folder / "pretrained" / "CosyVoice2-0.5B", test_cosyvoice.GOLDEN.state)
    (release / CODEC.weights).write_bytes(b"the tokenizer")
    upstream = write_package(folder / "upstream" / "CosyVoice", cosyvoice_code("speech"))
    python = upstream / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for subset in ("train-clean-100", "dev-clean", "test-clean"):
        for i in range(3):
            path = folder / "data" / "LibriTTS" / subset / "19" / "198" / f"19_198_{i}.wav"
            sound(path, 1 + i / 10)
            path.with_suffix(".normalized.txt").write_text("so it is.")
    names = [f"LJ{i}" for i in range(150)]
    (folder / "data" / "LJSpeech-1.1").mkdir()
    (folder / "data" / "LJSpeech-1.1" / "metadata.csv").write_text("".join(f"{n}|one|so it is.\n" for n in names))
    sound(folder / "data" / "LJSpeech-1.1" / "wavs" / "LJ0.wav", 0.5)
    for name in names[1:]:
        shutil.copy(folder / "data/LJSpeech-1.1/wavs/LJ0.wav", folder / "data/LJSpeech-1.1/wavs" / f"{name}.wav")
    for i in range(1, 5):
        sound(folder / "clips" / f"{i}.wav", 0.5)
    np.save(folder / "clips" / "2.npy", np.arange(10))
    sound(folder / "voice.wav", 1)
    (folder / "texts.txt").write_text("".join(f"say {a}{b}.\n" for a in "abcdefg" for b in "abcdefg"))
    for name, text in {**files(ADAPT), **files(DATA)}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("WAND_CACHE", str(place / "cache"))


def test_from_the_folder_to_an_export_that_speaks(place: Path) -> None:
    """The page's commands in their order, then its snippet."""
    said = commands(ADAPT)
    # The others download models and make their environments.
    assert {command[0] for command in said} == {"wand", "hf", "git", "conda"}
    for command in [command[1:] for command in said if command[0] == "wand"]:
        resumed = "--ckpt_path" in command
        options = {"prepare": SMALL, "fit": [*QUIET, *(["--trainer.max_steps=2"] if resumed else SMALL)], "test": QUIET}
        if command[0] == "synthesize":
            options["synthesize"] = ["--max_seconds", "1"]
        assert main([*command, *options.get(command[0], [])]) == 0, command
    assert read_checkpoint("runs/mine")["global_step"] > 0
    assert Path("student.wav").stat().st_size > 1000
    assert Path("teacher.wav").stat().st_size > 1000
    assert Path("runs/mine/samples/0-student.wav").is_file()
    assert "Apache-2.0" in Path("exported/README.md").read_text()
    (snippet,) = blocks(ADAPT, "python")
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert len(names["speech"].audio) == 960 * names["speech"].codes.shape[1] > 0
    names["codec"].close()


@pytest.mark.parametrize("config", [name for name in files(DATA) if name.endswith(".yaml")])
def test_every_way_to_data(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*SMALL]
    if config == "teacher.yaml":
        options += [f"--data.source.init_args.{split}_share=0.3" for split in ("validation", "test")]
    if config == "ljspeech.yaml":
        options += [f"--data.source.init_args.{split}_share=0.1" for split in ("validation", "test")]
    status = main(["prepare", "--config", "cosyvoice2", "--config", config, *options])
    printed = capsys.readouterr()
    if config == "lhotse.yaml":  # there are no cuts
        wanted = "no cuts at data/cuts.jsonl.gz" if find_spec("lhotse") else "wand-tts[lhotse]"
        assert status == 2
        assert wanted in printed.err
    else:
        assert status == 0, printed.err
        assert "left out" in printed.out or "ready in" in printed.out


def test_the_commands_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    prepare, check = commands(DATA)
    for program, *command in (prepare, check):
        assert program == "wand"
        assert main([*command, *SMALL]) == 0
    assert "are undamaged" in capsys.readouterr().out


def test_what_the_table_says_of_the_configs() -> None:
    """Windows and folders of the first table are those of the configs."""
    rows = re.findall(r"^\| .* \| `(\w+)` \| (.*) \| (\d+) \|$", ADAPT, re.MULTILINE)
    assert len(rows) == 6
    for name, there, window in rows:
        text = shipped_configs()[name].read_text()
        assert re.search(rf"^  window: {window}\b", text, re.MULTILINE), name
        folder = re.search(r"pretrained: pretrained/(\S+)", text)
        assert folder is not None
        assert f"`{folder[1]}`" in there, name
    linked = re.findall(r"\]\(([\w.-]+\.md)(?:#([\w-]+))?\)", ADAPT + DATA)
    for page, anchor in linked:
        lines = (DOCS / page).read_text().splitlines()
        headings = [re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-") for line in lines]
        assert not anchor or anchor in headings


def test_the_memory_that_the_page_states() -> None:
    with torch.device("meta"):
        model = CosyVoice2(architecture=CosyVoiceArchitecture())
    count = sum(parameter.numel() for parameter in model.parameters())
    memory = max(step_moments(model, Step(1, 2, 1, mixed=True)), key=lambda moment: moment.weights)
    copies = memory.weights - 4 * count
    assert (memory.optimiser, memory.teacher) == (8 * count, 4 * count)
    stated = (
        f"{count / 1e6:.1f} million of CosyVoice 2, {20 * count / 2**30:.1f} GiB before the first activation. Under "
        f"`bf16-mixed`, the bfloat16 copies of the projections add {copies / 2**30:.1f} GiB"
    )
    assert stated in " ".join(ADAPT.split())
