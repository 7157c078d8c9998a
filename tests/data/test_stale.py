"""Prepared data of changed sound, codes, codecs or code are never taken for those of today."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

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
