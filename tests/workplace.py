"""Whole runs at tiny size: real speech, the embedded codec, a random model of a few thousand parameters."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch

from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.cli import main
from wand.demo.coded import CODES, INDEX, CodedCorpus

SHAPE = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "num_codebooks": 8,
}
DATA = "--data.source.init_args"
ESPEAK = ["--data.source=wand.demo.corpus.EspeakCorpus"]
"""Speech that is made in the test, for recipes whose own takes hours."""


@dataclass(frozen=True)
class Workplace:
    """A folder to run in, a tiny pretrained model, short sentences, and the options that make any config small."""

    folder: Path
    pretrained: Path
    speech: Path

    @property
    def data(self) -> list[str]:
        sizes = [f"{DATA}.hours=0.02", f"{DATA}.validation_sentences=3", f"{DATA}.test_sentences=3"]
        return [
            *sizes,
            "--data.batch_size=4",
            "--data.workers=0",
            "--trainer.enable_progress_bar=false",
            "--trainer.log_every_n_steps=1",
        ]

    @property
    def fit(self) -> list[str]:
        files = [f"--model.backbone.init_args.pretrained={self.pretrained}", f"{DATA}.folder={self.speech}"]
        return [*files, *self.data, "--last_checkpoint.every_n_train_steps=2", "--model.window=8"]

    def run(self, *arguments: str) -> None:
        with mock.patch.dict(os.environ):  # for fixtures of a session, too
            assert main(arguments) == 0


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    EncodecLM(architecture=EncodecLMArchitecture(**SHAPE)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The speech that comes with wand; for validation and test, only its shortest sentences.

    A random model does not stop, so a sentence takes one and a half times as long as its recording.
    """
    folder, embedded = tmp_path_factory.mktemp("speech"), CodedCorpus().folder
    lines = [json.loads(line) for line in (embedded / INDEX).read_text().splitlines()]
    for split in ("validation", "test"):
        own = sorted((line for line in lines if line["split"] == split), key=lambda line: line["frames"])
        for longer in own[4:]:
            longer["split"] = "train"  # behind the hours that any test uses
    (folder / INDEX).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    shutil.copy(embedded / CODES, folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def enter(pretrained: Path, speech: Path, cache: Path) -> Callable[[Path, pytest.MonkeyPatch], Workplace]:
    def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("WAND_CACHE", str(cache))
        return Workplace(folder, pretrained, speech)

    return enter


@pytest.fixture
def workplace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enter: Callable[[Path, pytest.MonkeyPatch], Workplace]
) -> Workplace:
    return enter(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, enter: Callable[[Path, pytest.MonkeyPatch], Workplace]
) -> Workplace:
    """A workplace with one finished run, ``runs/quickstart``; tests read it and do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        workplace = enter(folder, monkeypatch)
        workplace.run("fit", "--config", "quickstart", *workplace.fit)
    return workplace


@pytest.fixture
def run(
    finished: Workplace, monkeypatch: pytest.MonkeyPatch, enter: Callable[[Path, pytest.MonkeyPatch], Workplace]
) -> Workplace:
    """The finished run, with its workplace as current folder."""
    return enter(finished.folder, monkeypatch)
