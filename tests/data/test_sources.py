"""Corpora of files: what they list, how they split, what they refuse."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.data.sources.corpora import FileCorpus, LibriTTS, LJSpeech
from wand.data.sources.lhotse import LhotseCorpus
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SPLITS, CodedSource, SpeechSource, split_by_name
from wand.files.audio import write_audio


def tone(path: Path, rate: int = 24_000, seconds: float = 0.5) -> None:
    write_audio(path, 0.3 * torch.sin(torch.arange(int(rate * seconds)) * 0.05), rate)


@pytest.fixture
def libritts(tmp_path: Path) -> Path:
    for subset in ("train-clean-100", "dev-clean"):
        for speaker in ("19", "26"):
            for i in range(3):
                name = tmp_path / subset / speaker / "198" / f"{speaker}_198_{i}"
                tone(name.with_suffix(".wav"))
                name.with_suffix(".normalized.txt").write_text(f"Line {i} of {speaker}.\n")
    return tmp_path


@pytest.fixture
def ljspeech(tmp_path: Path) -> Path:
    (tmp_path / "metadata.csv").write_text('LJ-1|Dr. "A|Doctor "A\nLJ-2|Two.|Two.\n')
    tone(tmp_path / "wavs" / "LJ-1.wav", 22_050)
    return tmp_path


def write_manifest(folder: Path, lines: list[dict[str, Any]]) -> str:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "\n")
    return str(path)


def check(corpus: FileCorpus) -> None:
    """What every corpus promises."""
    assert isinstance(corpus, SpeechSource)
    again = pickle.loads(pickle.dumps(corpus))
    listed = {split: corpus.utterances(split) for split in SPLITS}
    assert listed == {split: again.utterances(split) for split in SPLITS}
    ids = [utterance.id for split in SPLITS for utterance in listed[split]]
    assert len(ids) == len(set(ids))
    assert corpus.fingerprint == again.fingerprint
    with pytest.raises(ValueError, match="split"):
        corpus.utterances("dev")


def test_libritts(libritts: Path) -> None:
    corpus = LibriTTS(str(libritts), held_out_share=0.0)
    check(corpus)
    train = corpus.utterances("train")
    assert [u.speaker for u in train] == ["19"] * 3 + ["26"] * 3
    assert train[4].text == "Line 1 of 26."
    assert len(corpus.utterances("validation")) == 6
    assert corpus.utterances("test") == []
    assert corpus.audio(train[0]).shape == (12_000,)
    shared = LibriTTS(str(libritts), test=(), held_out_share=0.5)
    assert len(shared.utterances("train")) + len(shared.utterances("test")) == 6
    with pytest.raises(ValueError, match=r"train-clean-360.*parent folder"):
        LibriTTS(str(libritts), train=("train-clean-360",)).utterances("train")


def test_ljspeech(ljspeech: Path) -> None:
    corpus = LJSpeech(str(ljspeech), 0.0, 0.0)
    check(corpus)
    one, two = corpus.utterances("train")
    assert (one.text, two.text) == ('Doctor "A', "Two.")
    assert corpus.audio(one).shape == (12_000,)  # brought to 24 kHz
    with pytest.raises(ValueError, match="no sound file"):
        corpus.audio(two)
    with pytest.raises(ValueError, match="no LJSpeech"):
        LJSpeech(str(ljspeech / "wavs")).utterances("train")


def test_a_manifest_of_sounds(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 16_000)
    lines = [
        {"text": "one", "audio": "a.wav", "id": "first", "speaker": "x", "split": "test"},
        {"text": "two", "audio": "a.wav", "reference": "first"},
    ]
    corpus = ManifestCorpus(write_manifest(tmp_path, lines), 0.0, 0.0)
    check(corpus)
    assert not corpus.coded
    (one,), (two,) = corpus.utterances("test"), corpus.utterances("train")
    assert (one.speaker, two.id, two.reference) == ("x", "line-2", "first")
    assert corpus.audio(two).shape == (12_000,)


def test_a_manifest_of_codes(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.arange(8).reshape(2, 4))
    lines = [
        {"text": "one", "codes": [3, 1, 2], "global_codes": [7, 7]},
        {"text": "two", "codes": "b.npy"},
        {"text": "three", "codes": "gone.npy"},
    ]
    corpus = ManifestCorpus(write_manifest(tmp_path, lines[:2]), 0.0, 0.0)
    check(corpus)
    assert corpus.coded
    assert isinstance(corpus, CodedSource)
    one, two = (corpus.codes(utterance) for utterance in corpus.utterances("train"))
    assert one.codes.tolist() == [[3, 1, 2]]
    assert one.global_codes is not None
    assert one.global_codes.tolist() == [7, 7]
    assert two.codes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert two.global_codes is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ({"audio": "a.wav"}, "line 2 has no text"),
        ({"text": "a"}, "neither audio nor codes"),
        ({"text": "a", "audio": "a.wav", "split": "dev"}, "'dev' is not one of train"),
        ({"text": "a", "audio": "a.wav", "id": "line-1"}, "another line already has the id 'line-1'"),
        ({"text": "a", "audio": "a.wav", "reference": "nobody"}, "'nobody' of 'line-2' is not the id of any line"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = tmp_path / "corpus.jsonl"
    second = line if isinstance(line, str) else json.dumps(line)
    path.write_text('{"text": "a", "audio": "a.wav"}\n' + second)
    with pytest.raises(ValueError, match=message):
        ManifestCorpus(str(path)).utterances("train")


def test_a_missing_or_empty_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no manifest"):
        ManifestCorpus(str(tmp_path / "none.jsonl")).utterances("train")
    with pytest.raises(ValueError, match="holds no utterance"):
        ManifestCorpus(write_manifest(tmp_path, [])).utterances("train")


def test_the_cuts_of_lhotse(tmp_path: Path) -> None:
    """Runs where lhotse is installed (the extra `lhotse`)."""
    lhotse = pytest.importorskip("lhotse")
    cuts = []
    for i in range(4):
        tone(tmp_path / f"{i}.wav", 16_000)
        recording = lhotse.Recording.from_file(tmp_path / f"{i}.wav")
        said = lhotse.SupervisionSegment(f"s{i}", recording.id, 0, 0.5, text=f"line {i}", speaker="x")
        cuts.append(recording.to_cut())
        cuts[-1].supervisions = [said]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    corpus = LhotseCorpus(str(tmp_path / "cuts.jsonl.gz"), 0.0, 0.0)
    assert isinstance(corpus, SpeechSource)
    train = corpus.utterances("train")
    assert [(u.text, u.speaker) for u in train] == [(f"line {i}", "x") for i in range(4)]
    assert pickle.loads(pickle.dumps(corpus)).fingerprint == corpus.fingerprint
    assert corpus.audio(train[0]).shape == (12_000,)  # brought to 24 kHz
    (tmp_path / "1.wav").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        corpus.audio(train[1])
    cuts[0].supervisions = []
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    with pytest.raises(ValueError, match="has 0 supervisions, not one"):
        LhotseCorpus(str(tmp_path / "cuts.jsonl.gz")).utterances("train")
    (tmp_path / "cuts.jsonl").write_text("nothing")
    with pytest.raises(ValueError, match="holds no cuts"):
        LhotseCorpus(str(tmp_path / "cuts.jsonl")).utterances("train")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("command", "touch ran"),
        ("url", "pipe:touch ran"),
        ("file", "/x;touch ran;.sph"),
        ("file", "/x';touch ran;'.OPUS"),
    ],
)
def test_no_cut_of_lhotse_starts_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, source: str, nested: bool
) -> None:
    """Runs where lhotse is installed (the extra `lhotse`)."""
    lhotse = pytest.importorskip("lhotse")
    monkeypatch.chdir(tmp_path)
    tone(tmp_path / "plain.wav", 16_000)
    recording = lhotse.Recording.from_file(tmp_path / "plain.wav")
    evil = recording.to_dict() | {"sources": [{"type": kind, "channels": [0], "source": source}]}
    reverb = {"name": "ReverbWithImpulseResponse", "kwargs": {"rir": evil}}
    line = recording.to_cut().to_dict()
    line["recording"] = recording.to_dict() | {"transforms": [reverb]} if nested else evil
    line["supervisions"] = [
        {"id": "s", "recording_id": recording.id, "start": 0, "duration": 0.5, "text": "one", "custom": {"type": "x"}}
    ]
    mixed = {"type": "MixedCut", "id": "mix", "tracks": [{"type": "MonoCut", "cut": line}], "transforms": [reverb]}
    for cut in (line, mixed):
        Path("cuts.jsonl").write_text(json.dumps(cut) + "\n")
        corpus = LhotseCorpus("cuts.jsonl", 0.0, 0.0)
        with pytest.raises(ValueError, match="starts a program"):
            corpus.audio(corpus.utterances("train")[0])
    assert not Path("ran").exists()


def test_lhotse_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wand.data.sources.lhotse.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"wand-tts\[lhotse\]"):
        LhotseCorpus(str(tmp_path / "cuts.jsonl.gz"))


@given(st.sets(st.text(min_size=1), max_size=30), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_name_stays_in_its_split_whatever_else_there_is(names, validation, test):
    splits = {name: split_by_name(name, validation, test) for name in names}
    assert set(splits.values()) <= set(SPLITS)
    for name, split in splits.items():
        assert split_by_name(name, validation, test) == split
        if split == "validation":
            assert split_by_name(name, validation, 0.0) == "validation"  # more test data takes nothing from it


def test_shares_are_about_as_asked():
    splits = [split_by_name(f"utterance {i}", 0.1, 0.2) for i in range(4000)]
    assert 0.08 < splits.count("validation") / 4000 < 0.12
    assert 0.17 < splits.count("test") / 4000 < 0.23
