"""Speech that is spoken once, read again, and encoded: files against the voices themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recipes.corpus.corpus import OpenCorpus, kind_of
from recipes.corpus.encode import choose, write_codes
from recipes.corpus.recorded import Recorded
from recipes.corpus.speak import speak
from recipes.corpus.voices import EspeakVoice, FliteVoice, check_engines
from recipes.teacher.alignment import PhoneTimedSource
from tests.data.test_prepare import read
from tests.workplace import SHAPE
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs import EncodecCodec
from wand.data.prepare import prepare
from wand.data.sources.source import SPLITS, CodedSource, NamedCodes, TimedSource
from wand.demo.coded import CODES, CodedCorpus
from wand.demo.corpus import VOICES
from wand.text.espeak import phone_times, synthesize


@pytest.fixture(scope="module")
def encoded(spoken: tuple[OpenCorpus, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes")
    source = Recorded(spoken[1])
    assert write_codes(source, choose(source, 0.005, ["demo"], 3), EncodecCodec(), folder) == []
    return folder


def test_recorded_speech_is_what_the_voices_said(spoken: tuple[OpenCorpus, Path]) -> None:
    corpus, folder = spoken
    recorded = Recorded(folder)
    assert isinstance(recorded, TimedSource)
    assert isinstance(recorded, PhoneTimedSource)
    for split in SPLITS:
        assert recorded.utterances(split) == corpus.utterances(split)
    demo = [u for u in corpus.utterances("train") if kind_of(u) == "demo"][:3]
    voices = {voice.name: voice for voice in VOICES}
    for utterance in demo:  # without numbers, so that espeak-ng reads the text as it stands
        voice = voices[utterance.speaker]
        original = synthesize(utterance.text, voice)
        assert (recorded.audio(utterance) - original).abs().max() <= 0.5 / 32768 + 1e-6
        assert recorded.seconds(utterance) == len(original) / 16_000
        times = recorded.phone_times(utterance)
        expected = phone_times(utterance.text, voice)
        assert [phone for phone, _ in times] == [phone for phone, _ in expected]
        assert [begin for _, begin in times] == pytest.approx([begin for _, begin in expected], abs=0.001)


def test_an_interrupted_run_goes_on(spoken: tuple[OpenCorpus, Path], tmp_path: Path) -> None:
    corpus, folder = spoken
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    whole = Recorded(folder).fingerprint
    (folder / "validation-00000.jsonl").unlink()
    (folder / ".train-00000.npy.0.host@1.partial").touch()
    speak(corpus, folder, processes=0)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {name for name in before if after[name] != before[name]} == {
        "validation-00000.jsonl",
        "validation-00000.npy",
    }
    assert Recorded(folder).fingerprint == whole


def test_refused_utterances_are_listed_and_left_out(spoken: tuple[OpenCorpus, Path], tmp_path: Path) -> None:
    broken = spoken[0].utterances("train")[0]
    shutil.copytree(spoken[1], tmp_path / "speech")
    path = tmp_path / "speech" / "train-00000.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert np.load(path.with_suffix(".npy")).size == sum(line["length"] for line in lines)
    lines[0] = {key: lines[0][key] for key in ("id", "text", "speaker")} | {"refused": "no sound"}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert broken not in Recorded(tmp_path / "speech").utterances("train")
    with pytest.raises(ValueError, match=r"no speech in .*empty: make it with python -m recipes.corpus.speak"):
        Recorded(tmp_path / "empty").utterances("train")


def test_missing_flite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    check_engines([EspeakVoice(VOICES[0])])
    with pytest.raises(ValueError, match="install the package `flite`"):
        check_engines([FliteVoice("robert", "rms")])


def test_codes_are_those_of_the_speech(spoken: tuple[OpenCorpus, Path], encoded: Path) -> None:
    source, corpus, codec = Recorded(spoken[1]), CodedCorpus(encoded), EncodecCodec()
    assert isinstance(corpus, CodedSource)
    assert isinstance(corpus, NamedCodes)
    assert corpus.utterances("validation") == [u for u in source.utterances("validation") if kind_of(u) == "demo"]
    assert corpus.utterances("test") == source.utterances("test")[:3]
    assert {kind_of(utterance) for utterance in corpus.utterances("train")} == {"demo"}
    for split in SPLITS:
        for utterance in corpus.utterances(split):
            own = corpus.codes(utterance)
            assert torch.equal(own.codes, codec.encode(source.audio(utterance)[None, None], 16_000)[0])
            assert own.voiced is not None
            assert 0 <= own.voiced[0] < own.voiced[1] <= own.codes.shape[1]
    with pytest.raises(ValueError, match=r"has the codes of .* not its sound"):
        corpus.audio(corpus.utterances("test")[0])
    with pytest.raises(ValueError, match="hours of demo, not 5"):
        choose(source, 5.0, ["demo"], 3)


def test_a_model_prepares_codes_without_its_codec_and_refuses_others(encoded: Path, tmp_path: Path) -> None:
    corpus = CodedCorpus(encoded)
    torch.manual_seed(0)
    model = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE))
    cache = prepare(corpus, model, tmp_path, 0)
    examples = read(cache.folder, "train", cache.fingerprint)
    assert [example.id for example in examples] == [utterance.id for utterance in corpus.utterances("train")]
    assert torch.equal(examples[0].codes, corpus.codes(corpus.utterances("train")[0]).codes)
    model.codec = EncodecCodec(num_codebooks=2)
    with pytest.raises(ValueError, match=r"has codes of the codec .*, but the codec of this model is"):
        corpus.check_codes(model)


def test_damaged_codes_are_named(encoded: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no coded speech at .*nothing: utterances.jsonl is missing"):
        CodedCorpus(tmp_path / "nothing").utterances("train")
    for path in encoded.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert CodedCorpus(tmp_path).fingerprint == CodedCorpus(encoded).fingerprint
    (tmp_path / CODES).write_bytes(b"nothing")
    damaged = CodedCorpus(tmp_path)
    assert damaged.fingerprint != CodedCorpus(encoded).fingerprint
    with pytest.raises(ValueError, match=r"codes.safetensors cannot be read as codes"):
        damaged.codes(damaged.utterances("train")[0])


def test_a_part_of_the_speech_is_its_beginning(encoded: Path) -> None:
    whole = CodedCorpus(encoded)
    first = whole.utterances("train")[0]
    seconds = whole.codes(first).codes.shape[1] / 50
    for hours, expected in ((seconds / 3600, 1), ((seconds + 0.01) / 3600, 2)):
        part = CodedCorpus(encoded, hours=hours, validation_sentences=1, test_sentences=2)
        assert part.utterances("train") == whole.utterances("train")[:expected]
    assert part.utterances("validation") == whole.utterances("validation")[:1]
    assert part.utterances("test") == whole.utterances("test")[:2]
    last = part.utterances("test")[-1]
    assert torch.equal(part.codes(last).codes, whole.codes(last).codes)
    assert part.fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ({"hours": 0.0}, "hours must be positive, got 0.0"),
        ({"hours": float("nan")}, "hours .*nan"),
        ({"hours": 5.0}, r"has 0\.0\d hours of training speech, not 5"),
        ({"validation_sentences": 0}, "validation_sentences must be at least 1, got 0"),
        ({"test_sentences": 99}, "has 3 sentences for test, not 99"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(encoded: Path, sizes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        [CodedCorpus(encoded, **sizes).utterances(split) for split in SPLITS]
