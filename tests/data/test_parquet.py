"""Parquet files as CosyVoice's training scripts write them."""

from __future__ import annotations

import io
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch

from tests.conftest import TINY
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.cosyvoice.conditioner import CosyVoiceArchitecture
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.worker import WorkerCodec
from wand.data.prepare import prepare
from wand.data.shards import ShardedExamples
from wand.data.sources.parquet import ParquetCorpus
from wand.data.sources.source import SPLITS, CodedSource, SpeechSource
from wand.data.sources.teacher_samples import TeacherSamples

FRAMES = 30
SAMPLES = FRAMES * 960

CODEC = """
import numpy as np
from serve import serve


class Levels:
    def __init__(self, settings):
        pass

    def describe(self):
        return {"sample_rate": 24000, "frame_rate": 25.0, "num_codebooks": 1, "codebook_size": 6561,
                "needs_reference": False}

    def encode(self, audio, sample_rate):
        return {"codes": np.round(np.abs(audio[480::960]) * 1000).astype(np.int64)[None]}

    def decode(self, codes):
        return {"audio": np.repeat(codes[0] / 1000, 960).astype(np.float32)}


serve(Levels)
"""


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAND_CACHE", str(tmp_path / "memory"))


def sound(number: int) -> np.ndarray:
    levels = np.random.default_rng(number).uniform(0.1, 0.9, FRAMES)
    return np.repeat(levels, SAMPLES // FRAMES) * np.where(np.arange(SAMPLES) // 40 % 2, -1, 1)


def tokens_of(number: int) -> list[int]:
    return np.round(np.abs(sound(number)[480::960]) * 1000).astype(int).tolist()


def wav(number: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(number), 24_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def row(number: int, **other: Any) -> dict[str, Any]:
    return {
        "utt": f"u{number}",
        "wav": f"/upstream/{number}.wav",
        "audio_data": wav(number),
        "text": f"so it is {number}.",
        "spk": f"s{number % 2}",
        "utt_embedding": [0.5] * 192,
        "spk_embedding": [0.5] * 192,
        "speech_token": tokens_of(number),
        **other,
    }


def write(folder: Path, parts: list[list[dict[str, Any]]], without: tuple[str, ...] = ()) -> str:
    """Files and their list, with paths of another machine, as `make_parquet_list.py` writes them."""
    folder.mkdir(exist_ok=True)
    names = []
    for i, part in enumerate(parts):
        names.append(f"parquet_{i:09d}.tar")
        kept = [{name: value for name, value in one.items() if name not in without} for one in part]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(kept), folder / names[-1], row_group_size=3)
    (folder / "data.list").write_text("".join(f"data/train/parquet/{name}\n" for name in names))
    return str(folder / "data.list")


@pytest.fixture
def model() -> CosyVoice2:
    shape = CosyVoiceArchitecture(32, 48, 2, 2, 1, 128)
    return CosyVoice2(architecture=shape)


@pytest.fixture
def codec(tmp_path: Path) -> WorkerCodec:
    (tmp_path / "levels.py").write_text(CODEC)
    return WorkerCodec(str(tmp_path / "levels.py"), sys.executable, str(tmp_path / "release"))


def test_rows_are_utterances(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [[row(i) for i in range(50)], [row(i) for i in range(50, 60)]])
    corpus = ParquetCorpus(path, validation_share=0.1, test_share=0.1)
    assert isinstance(corpus, CodedSource)
    assert isinstance(corpus, SpeechSource)
    assert corpus.coded
    listed = {split: corpus.utterances(split) for split in SPLITS}
    assert sorted(u.id for own in listed.values() for u in own) == sorted(f"u{i}" for i in range(60))
    assert all(listed.values())
    again = pickle.loads(pickle.dumps(corpus))
    assert again.fingerprint == corpus.fingerprint == ParquetCorpus(path, None, None, None, True, 0.1, 0.1).fingerprint
    for utterance in [*listed["train"], *reversed(listed["train"])]:
        number = int(utterance.id[1:])
        assert (utterance.text, utterance.speaker) == (f"so it is {number}.", f"s{number % 2}")
        assert corpus.codes(utterance).codes.tolist() == [tokens_of(number)]
        assert torch.equal(corpus.audio(utterance), torch.from_numpy(sound(number)).float())
    assert pickle.loads(pickle.dumps(corpus)).codes(listed["test"][0]).codes.shape == (1, FRAMES)


def test_every_split_may_have_its_list(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, [[row(i)]]) for i, name in enumerate("abc")]
    corpus = ParquetCorpus(*paths, validation_share=1.0)
    assert [[u.id for u in corpus.utterances(split)] for split in SPLITS] == [["u0"], ["u1"], ["u2"]]


def test_other_tokens_or_sound_are_another_corpus(tmp_path: Path) -> None:
    seen = set()
    for change in ({}, {"speech_token": tokens_of(5)}, {"audio_data": wav(5)}, {"text": "why not."}, {"spk": "x"}):
        seen.add(ParquetCorpus(write(tmp_path / "a", [[row(0, **change)]])).fingerprint)
    seen.add(ParquetCorpus(str(tmp_path / "a" / "data.list"), use_tokens=False).fingerprint)
    assert len(seen) == 6


def test_what_cannot_be_used_is_refused_by_row(tmp_path: Path) -> None:
    odd = [
        row(0, speech_token=[]),
        row(1, speech_token=None, audio_data=b"nothing"),
        row(2, text=None, spk=None, audio_data=None),
    ]
    corpus = ParquetCorpus(write(tmp_path / "a", [odd]), None, None, None, True, 0.0, 0.0)
    one, two, three = corpus.utterances("train")
    for utterance in (one, two):
        with pytest.raises(ValueError, match=rf"tar, row .* \({utterance.id}\) has no speech_token: .* over 30 s"):
            corpus.codes(utterance)
    with pytest.raises(ValueError, match=r"row 1 .* audio_data is no sound file"):
        corpus.audio(two)
    with pytest.raises(ValueError, match=r"row 2 \(u2\) has no audio_data"):
        corpus.audio(three)
    assert (three.text, three.speaker) == ("", "unknown")
    floats = ParquetCorpus(write(tmp_path / "b", [[row(0, speech_token=[1.5, 2.0])]]), None, None, None, True, 0.0, 0.0)
    with pytest.raises(ValueError, match="not a list of whole numbers"):
        floats.codes(floats.utterances("train")[0])
    single = ParquetCorpus(write(tmp_path / "c", [[row(0, speech_token=7)]]), None, None, None, True, 0.0, 0.0)
    with pytest.raises(ValueError, match="not a list of whole numbers"):
        single.codes(single.utterances("train")[0])


def test_a_file_that_has_changed_or_fails_in_any_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = ParquetCorpus(write(tmp_path / "a", [[row(i) for i in range(3)]]), None, None, None, True, 0.0, 0.0)
    last = corpus.utterances("train")[-1]
    write(tmp_path / "a", [[row(0)]])
    with pytest.raises(ValueError, match=r"parquet_000000000\.tar has no row 2: it has changed"):
        corpus.codes(last)
    for error in (pyarrow.lib.ArrowException, pyarrow.lib.ArrowKeyError, pyarrow.lib.ArrowNotImplementedError):

        def fail(*_: Any, error: type[Exception] = error, **__: Any) -> None:
            raise error("page 3\nmore")

        with monkeypatch.context() as patched:
            patched.setattr("pyarrow.parquet.ParquetFile.iter_batches", fail)
            with pytest.raises(ValueError, match=r"parquet_000000000\.tar is damaged: .*page 3.?$"):
                ParquetCorpus(str(tmp_path / "a" / "data.list")).utterances("train")


@pytest.mark.parametrize(
    "shares", [{"validation_share": 5.0}, {"test_share": -0.1}, {"validation_share": 0.6, "test_share": 0.5}]
)
def test_shares_that_leave_nothing_are_refused(tmp_path: Path, shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="share"):
        ParquetCorpus(write(tmp_path / "a", [[row(0)]]), **shares)


def test_lists_and_files_that_cannot_be_meant_are_named(tmp_path: Path) -> None:
    def refused(message: str, path: str) -> None:
        with pytest.raises(ValueError, match=message):
            ParquetCorpus(path).utterances("train")

    refused("no list of parquet files", str(tmp_path / "none.list"))
    refused(r"row 1: another utterance already has the id 'u0'", write(tmp_path / "a", [[row(0), row(0)]]))
    refused("row 0 has no utt", write(tmp_path / "a", [[row(0, utt=None)]]))
    for column in ("utt", "text"):
        refused(f"has no column {column}", write(tmp_path / "a", [[row(0)]], (column,)))
    path = Path(write(tmp_path / "a", [[row(0)]]))
    path.write_text("\n/data/gone.tar\n")
    refused(r"data\.list, line 2: there is no file /data/gone\.tar", str(path))
    path.write_text("\n")
    refused("names no file", str(path))
    (path.parent / "real.tar").write_bytes(b"no parquet")
    path.write_text("\ufeffreal.tar\r\n")
    refused(r"real\.tar is not a parquet file", str(path))


def test_pyarrow_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wand.data.sources.parquet.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"wand-tts\[parquet\]"):
        ParquetCorpus(str(tmp_path / "data.list"))


# -- whose tokens are these? -------------------------------------------------------------------------------------


def test_a_tokenizer_is_named(tmp_path: Path, model: CosyVoice2) -> None:
    path = write(tmp_path / "a", [[row(i) for i in range(6)]])
    for name in ("speech_tokenizer_v2", "speech_tokenizer_v2.onnx", "pretrained/speech_tokenizer_v2.onnx"):
        ParquetCorpus(path, tokenizer=name).check_codes(model)
    with pytest.raises(ValueError, match=r"are of speech_tokenizer_v3, but this model was .* with speech_tokenizer_v2"):
        ParquetCorpus(path, tokenizer="speech_tokenizer_v3").check_codes(model)
    with pytest.raises(ValueError, match=r"which speech tokenizer made .* \(speech_tokenizer_v2\), or set data\.codec"):
        ParquetCorpus(path).check_codes(model)
    ParquetCorpus(path, tokenizer="my own").check_codes(EncodecLM(architecture=TINY))  # an adapter that names none
    ParquetCorpus(path, use_tokens=False).check_codes(model)


def test_tokens_are_compared_with_the_codec(tmp_path: Path, model: CosyVoice2, codec: WorkerCodec) -> None:
    model.codec = codec
    rows = [row(i) for i in range(12)]
    rows[0]["speech_token"] = []
    ParquetCorpus(write(tmp_path / "a", [rows])).check_codes(model)
    others = write(tmp_path / "b", [[row(i, speech_token=tokens_of(i + 1)) for i in range(12)]])
    corpus = ParquetCorpus(others)
    with pytest.raises(ValueError, match=r"only \d+% of the compared speech_token .* another tokenizer made them"):
        corpus.check_codes(model)
    texts = tmp_path / "texts.txt"
    texts.write_text("one")
    with pytest.raises(ValueError, match="another tokenizer made them"):
        TeacherSamples(str(texts), corpus).check_codes(model)
    with pytest.raises(ValueError, match="which speech tokenizer"):
        ParquetCorpus(write(tmp_path / "c", [rows], ("audio_data",))).check_codes(model)
    codec.close()


@pytest.mark.parametrize("use_tokens", [True, False])
def test_a_preparation_gives_the_tokens(tmp_path: Path, codec: WorkerCodec, use_tokens: bool) -> None:
    """With tokens: those of the files, although their sound says otherwise. Without: those of the sound."""
    lm = EncodecLM(architecture=replace(TINY, num_codebooks=1, codebook_size=1000))
    lm.codec = codec
    heard = {i: i + 100 if use_tokens else i for i in range(12)}
    rows = [row(i, audio_data=wav(heard[i]), text="so it is.") for i in range(12)]
    rows[3]["speech_token"] = []
    path = write(tmp_path / "a", [rows])
    corpus = ParquetCorpus(path, None, None, "named", use_tokens, 0.3, 0.3)
    cache = prepare(corpus, lm, tmp_path / "cache", workers=0)
    made = {e.id: e.codes for split in SPLITS for e in ShardedExamples(cache.files(split), cache.fingerprint)}
    expected = {f"u{i}": [tokens_of(i)] for i in range(12) if i != 3 or not use_tokens}
    assert {name: codes.tolist() for name, codes in made.items()} == expected
    refused = [json.loads(line) for line in (cache.folder / "refused.jsonl").read_text().split("\n") if line]
    assert [line["id"] for line in refused] == (["u3"] if use_tokens else [])
    codec.close()
