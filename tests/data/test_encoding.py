"""Processes that read and encode: one that ends or hangs ends the preparation with one line, and it can go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.test_prepare import SIZES, Tones, _small_shards, codec_folder, lm  # noqa: F401 - fixtures
from wand.backbones.encodec_lm import EncodecLM
from wand.data import encoding
from wand.data.prepare import prepare
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import Utterance
from wand.data.sources.teacher_samples import TeacherSamples
from wand.data.validate import SpeechLimits


@dataclass
class Deadly(Tones):
    """A corpus whose sound ends the process, or stops it, at one utterance while a file is there."""

    ends_at: str = "train-2"
    signal: int = signal.SIGKILL
    while_there: str = ""

    def audio(self, utterance: Utterance) -> torch.Tensor:
        if utterance.id == self.ends_at and Path(self.while_there).exists():
            os.kill(os.getpid(), self.signal)
            time.sleep(3600)
        return Tones.audio(self, utterance)

    def length(self, utterance: Utterance) -> int:
        return len(self.audio(utterance))


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    path = tmp_path / "trap"
    path.write_text("")
    return path


def test_a_process_that_is_killed_ends_the_preparation_which_then_goes_on(
    lm: EncodecLM,  # noqa: F811
    tmp_path: Path,
    trap: Path,
) -> None:
    source = Deadly(while_there=str(trap))
    with pytest.raises(ValueError, match=r"a process ended while .* 'train-2' to 'train-2' .*run the command again"):
        prepare(source, lm, tmp_path / "cache", workers=1)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/*/*.safetensors")}
    assert [path.name for path in kept] == ["train-00000.safetensors"]
    trap.unlink()
    cache = prepare(source, lm, tmp_path / "cache", workers=0)
    assert cache.finished() == SIZES
    for path, changed in kept.items():
        assert path.stat().st_mtime_ns == changed


def test_a_process_that_hangs_is_ended_after_the_time_limit(
    lm: EncodecLM,  # noqa: F811
    trap: Path,
) -> None:
    source = Deadly(signal=signal.SIGSTOP, while_there=str(trap))
    with (
        pytest.raises(ValueError, match=r"utterance 'train-2' was not read and encoded within 5 s"),
        encoding.in_processes(source.length, 1, seconds=5.0) as work,
    ):
        list(work(source.utterances("train")))
    trap.unlink()
    with encoding.in_processes(source.length, 0) as work:
        assert list(work(source.utterances("train"))) == [8000 + 320 * i for i in range(5)]


SCRIPT = """
from pathlib import Path
from wand.backbones.encodec_lm import EncodecLM
from wand.data.prepare import prepare
from wand.demo.corpus import EspeakCorpus
prepare(EspeakCorpus(0.001, 0, 1, 1), EncodecLM(pretrained="embedded"), Path({cache!r}), workers=1)
"""


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(cache=str(tmp_path / "cache")))
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: the processes that read and encode cannot start")
    assert 'if __name__ == "__main__":' in last
    assert ended.stderr.count("Traceback") == 2  # the error and its cause, of the first process only


class Counted(dict[str, Any]):
    """Lines that count how often somebody goes through all of them."""

    passes = 0

    def values(self) -> Any:
        self.passes += 1
        return super().values()


class Asked:
    """A corpus that counts how often its fingerprint is asked for."""

    sample_rate = 16_000
    prints = 0

    @property
    def fingerprint(self) -> str:
        self.prints += 1
        return "asked"

    def utterances(self, split: str) -> list[Utterance]:
        return Tones().utterances(split)

    def audio(self, utterance: Utterance) -> torch.Tensor:
        return Tones().audio(utterance)

    def seconds(self, utterance: Utterance) -> float | None:
        return None


def test_no_utterance_goes_through_the_whole_corpus(lm: EncodecLM, tmp_path: Path) -> None:  # noqa: F811
    codes = [[1, 2, 3] * 20] * lm.num_codebooks
    lines = [{"id": f"u{i}", "text": "hello", "codes": codes} for i in range(9)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = ManifestCorpus(str(tmp_path / "corpus.jsonl"), 0.0, 0.0)
    texts = tmp_path / "texts.txt"
    texts.write_text("hello\n")
    samples = TeacherSamples(str(texts), manifest)
    limits = SpeechLimits.of(lm, 30.0)
    utterances = manifest.utterances("train")
    counted = Counted(manifest.lines)
    manifest.__dict__["lines"] = counted
    for source in (manifest, samples):
        for work in (encoding.Checker(source, limits), encoding.Encoder(source, None, limits)):
            assert encoding.is_coded(source)
            for utterance in utterances:
                work(utterance)
    assert counted.passes <= 2  # one for `coded`, one for the fingerprint
    asked = Asked()
    check = encoding.Checker(asked, limits)
    for utterance in asked.utterances("train"):
        assert check(utterance) == len(asked.audio(utterance)) / asked.sample_rate
    assert asked.prints == 0
