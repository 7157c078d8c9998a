"""Prepared data of changed sound, codes, codecs or code are never taken for those of today."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.worker import WorkerCodec
from wand.data.fingerprint import cache_fingerprint, code_digest
from wand.data.sources.corpora import LibriTTS, LJSpeech
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SpeechSource
from wand.data.sources.teacher_samples import TeacherSamples
from wand.files.audio import write_audio


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAND_CACHE", str(tmp_path / "memory"))


def sound(path: Path, pitch: float) -> None:
    write_audio(path, 0.3 * torch.sin(torch.arange(2400) * pitch), 24_000)


def ljspeech(folder: Path, pitch: float) -> LJSpeech:
    for name in "ab":
        sound(folder / "wavs" / f"{name}.wav", pitch)
    (folder / "metadata.csv").write_text("a|one\nb|two\n")
    return LJSpeech(str(folder))


def libritts(folder: Path, pitch: float) -> LibriTTS:
    for name in "ab":
        sound(folder / "train-clean-100" / "19" / "198" / f"{name}.wav", pitch)
        (folder / "train-clean-100" / "19" / "198" / f"{name}.normalized.txt").write_text("one")
    return LibriTTS(str(folder))


def manifest(folder: Path, pitch: float) -> ManifestCorpus:
    sound(folder / "a.wav", pitch)
    (folder / "x.jsonl").write_text(json.dumps({"text": "one", "audio": "a.wav"}))
    return ManifestCorpus(str(folder / "x.jsonl"))


@pytest.mark.parametrize("make", [ljspeech, libritts, manifest])
def test_equal_lists_with_other_sound_are_other_corpora(tmp_path: Path, make) -> None:
    one, other, same = (make(tmp_path / name, pitch) for name, pitch in (("x", 0.05), ("y", 0.06), ("z", 0.05)))
    paths = [[recording.path for recording in corpus.recordings.values()] for corpus in (one, other)]
    sizes = [[path.stat().st_size for path in own] for own in paths]
    assert sizes[0] == sizes[1]
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == same.fingerprint  # a copy in another folder
    assert pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint


@pytest.mark.parametrize("make", [ljspeech, libritts, manifest])
def test_a_replaced_sound_is_noticed_even_with_its_old_time_and_size(tmp_path: Path, make) -> None:
    before = make(tmp_path, 0.05).fingerprint
    corpus = make(tmp_path, 0.05)
    assert corpus.fingerprint == before
    path = next(iter(corpus.recordings.values())).path
    assert path is not None
    was = path.stat()
    sound(path, 0.06)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size
    changed = type(corpus)(str(getattr(corpus, "path", tmp_path)))
    assert changed.fingerprint != before
    path.unlink()
    assert type(corpus)(str(getattr(corpus, "path", tmp_path))).fingerprint not in (before, changed.fingerprint)


@pytest.mark.parametrize("key", ["codes", "global_codes"])
def test_replaced_codes_are_noticed(tmp_path: Path, key: str) -> None:
    def corpus() -> ManifestCorpus:
        return ManifestCorpus(str(tmp_path / "x.jsonl"), 0.0, 0.0)

    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "one", "codes": [1, 2], key: "a.npy"}))
    seen = {corpus().fingerprint}  # missing: reported when it is prepared
    for first in (1, 2):
        np.save(tmp_path / "a.npy", np.array([first, 5]))
        seen.add(corpus().fingerprint)
    assert len(seen) == 3


def test_replaced_prompts_of_the_teacher_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one")
    prints = []
    for pitch in (0.05, 0.06, 0.05):
        source: SpeechSource = TeacherSamples(str(tmp_path / "texts.txt"), manifest(tmp_path, pitch))
        prints.append(source.fingerprint)
    assert prints[0] == prints[2] != prints[1]


def test_replaced_sound_of_lhotse_is_noticed(tmp_path: Path) -> None:
    """Runs where lhotse is installed (the extra `lhotse`)."""
    lhotse = pytest.importorskip("lhotse")
    from wand.data.sources.lhotse import LhotseCorpus

    prints = []
    for pitch in (0.05, 0.06, 0.05):
        sound(tmp_path / "a.wav", pitch)
        recording = lhotse.Recording.from_file(tmp_path / "a.wav")
        cut = recording.to_cut()
        cut.supervisions = [lhotse.SupervisionSegment("s", recording.id, 0, 0.1, text="one", speaker=None)]
        lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
        corpus = LhotseCorpus(str(tmp_path / "cuts.jsonl"), 0.0, 0.0)
        assert [one.speaker for one in corpus.utterances("train")] == ["unknown"]
        prints.append(corpus.fingerprint)
    assert prints[0] == prints[2] != prints[1]
    (tmp_path / "cuts.jsonl").write_text((tmp_path / "cuts.jsonl").read_text() * 2)
    with pytest.raises(ValueError, match="two cuts have the id"):
        LhotseCorpus(str(tmp_path / "cuts.jsonl")).utterances("train")


# -- codec, adapter and model ------------------------------------------------------------------------------------

SCRIPT = """
from serve import serve


class Silent:
    def __init__(self, settings):
        pass

    def describe(self):
        return {"sample_rate": 24000, "frame_rate": 25.0, "num_codebooks": 1, "codebook_size": 9,
                "needs_reference": False, "weights": WEIGHTS}


serve(Silent)
"""


@pytest.mark.parametrize("weights", ["", "model.bin"])
def test_a_replaced_script_or_its_weights_are_noticed(tmp_path: Path, weights: str) -> None:
    script, release = tmp_path / "silent.py", tmp_path / "release"
    release.mkdir()
    script.write_text(SCRIPT.replace("WEIGHTS", repr(weights)))
    for name in ("model.bin", "other.bin"):
        (release / name).write_bytes(b"one")

    def fingerprint() -> str:
        codec = WorkerCodec(str(script), sys.executable, str(release))
        codec.close()
        return codec.fingerprint

    before = fingerprint()
    assert fingerprint() == before
    (release / "other.bin").write_bytes(b"two")
    assert (fingerprint() != before) == (weights == "")
    before = fingerprint()
    (release / "model.bin").write_bytes(b"two")
    changed = fingerprint()
    assert changed != before
    script.write_text(script.read_text() + "\n# changed\n")
    assert fingerprint() not in (before, changed)
    (release / ".cache").mkdir()
    (release / ".cache" / "log").write_text("of another day")
    script.write_text(SCRIPT.replace("WEIGHTS", repr(weights)))
    assert fingerprint() == changed


ADAPTER = """
from wand.backbones.encodec_lm import SymbolConditioner


class Own(SymbolConditioner):
    def __call__(self, text, reference):
        return super().__call__(text + "a", reference)
"""


def test_a_changed_adapter_of_the_user_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    seen = set()
    for number, code in enumerate((ADAPTER, ADAPTER.replace('"a"', '"b"'), ADAPTER)):
        (tmp_path / "own_adapter.py").write_text(code)
        sys.modules.pop("own_adapter", None)
        importlib.invalidate_caches()
        kind = importlib.import_module("own_adapter").Own
        seen.add((number % 2, code_digest(kind)))
    assert len(seen) == 2
    assert code_digest(EncodecLM) == ""  # wand's own code counts as one version


@pytest.mark.parametrize(
    "trait", [{"max_speech_tokens": 7}, {"cut_references": False}, {"frame_rate": 12.5}, {"hears_references": True}]
)
def test_a_model_that_uses_other_utterances_or_references_is_noticed(tmp_path: Path, trait: dict[str, object]) -> None:
    source = manifest(tmp_path, 0.05)
    one, other = EncodecLM(architecture=TINY), EncodecLM(architecture=TINY)
    assert cache_fingerprint(source, one, None) == cache_fingerprint(source, other, None)
    for name, value in trait.items():
        setattr(other, name, value)
    assert cache_fingerprint(source, one, None) != cache_fingerprint(source, other, None)
