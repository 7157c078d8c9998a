"""What stands between a source and its shards: bad utterances are left out with their reason, the rest is prepared."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.backbones.test_causal_lm import shipped_format, write_model
from tests.conftest import TINY
from tests.data.test_prepare import codec_folder, lm, read  # noqa: F401 - fixtures
from tests.workplace import SHAPE
from wand.backbones.causal_lm import CausalSpeechLM
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.data.check import check_source
from wand.data.prepare import ShardCache, prepare
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SPLITS, Utterance
from wand.data.validate import check_rate, check_text
from wand.demo.corpus import VOICES, EspeakCorpus
from wand.files.audio import write_audio
from wand.files.sound import Unusable
from wand.model.codes import allowed_codes, check_codes
from wand.text.espeak import SAMPLE_RATE, synthesize

TEXT = "so they went home in the rain."


def speech(text: str = TEXT, voice: int = 0) -> torch.Tensor:
    return synthesize(text, VOICES[voice])


def manifest(folder: Path, lines: list[dict[str, Any]]) -> ManifestCorpus:
    """A corpus with these lines for training, and a good one for each other split."""
    good = {key: value for key, value in lines[0].items() if key != "id"}
    lines = [{"split": "train", "speaker": "a", **line} for line in lines]
    lines += [{**good, "id": split, "split": split} for split in ("validation", "test")]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ManifestCorpus(str(folder / "corpus.jsonl"))


def reasons(cache: ShardCache) -> dict[str, str]:
    told = [json.loads(line) for line in (cache.folder / "refused.jsonl").read_text().splitlines()]
    return {line["id"]: line["why"] for line in told}


def ids(cache: ShardCache) -> list[str]:
    return [example.id for example in read(cache.folder, "train", cache.fingerprint)]


def test_bad_recordings_are_left_out_and_the_rest_is_prepared(
    lm: EncodecLM,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sounds = {
        "good": speech(),
        "other": speech(voice=3),
        "silence": torch.zeros(SAMPLE_RATE),
        "half": speech()[: len(speech()) // 2],
        "hours": speech(),
        "wordless": speech(),
    }
    lines = []
    for name, sound in sounds.items():
        write_audio(tmp_path / f"{name}.wav", sound, SAMPLE_RATE)
        lines.append({"id": name, "audio": f"{name}.wav", "text": "?!" if name == "wordless" else TEXT.rstrip(".")})
    write_audio(tmp_path / "hours.flac", sounds["hours"], SAMPLE_RATE)
    content = bytearray((tmp_path / "hours.flac").read_bytes())
    content[22:26] = (36_000 * SAMPLE_RATE).to_bytes(4, "big")
    (tmp_path / "hours.flac").write_bytes(content)
    lines[4]["audio"] = "hours.flac"
    expected = {
        "silence": "silent",
        "half": "too short for its text",
        "hours": "too long",
        "wordless": "no words",
    }
    source = manifest(tmp_path, lines)
    check_source(source, lm, workers=0)
    checked = capsys.readouterr()
    assert "train hours: it lasts 36000.0 s" in checked.out
    assert "warning: 4 of 6 utterances of train are left out" in checked.err
    assert list(tmp_path.glob("*/*.safetensors")) == []
    cache = prepare(source, lm, tmp_path / "cache", workers=0)
    assert ids(cache) == ["good", "other"]
    assert reasons(cache) == expected
    assert "warning: 4 of 6 utterances of train are left out" in capsys.readouterr().err


def test_nothing_of_the_demo_corpus_is_refused(lm: EncodecLM, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    corpus = EspeakCorpus(hours=0.05, validation_sentences=8, test_sentences=8)
    check_source(corpus, lm, workers=0)
    printed = capsys.readouterr()
    assert printed.err == ""
    for split in SPLITS:
        (row,) = [line for line in printed.out.splitlines() if f" {split} " in line]
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert cells[1] == str(len(corpus.utterances(split)))
        assert cells[3:] == ["0", ""]


STOP = TINY.codebook_size
BAD_CODES: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "the stop code": (lambda c: np.where(c == c[0, 3], STOP, c), "codes out of range"),
    "the filler": (lambda c: np.where(c == c[0, 3], STOP + 1, c), "codes out of range"),
    "negative": (lambda c: c - 100, "codes out of range"),
    "large": (lambda c: c + 99_999, "codes out of range"),
    "beyond int64": (lambda c: c.astype(np.uint64) + np.uint64(2**63), "codes out of range"),
    "too few rows": (lambda c: c[:-1], "shape of codes"),
    "flat": (lambda c: c[0], "shape of codes"),
    "transposed": (lambda c: c.T, "shape of codes"),
    "a batch": (lambda c: c[None], "shape of codes"),
    "without dimensions": (lambda c: np.array(3), "shape of codes"),
    "nan": (lambda c: np.where(c == c[0, 3], np.nan, c), "type of codes"),
    "fractions": (lambda c: c + 0.5, "type of codes"),
    "truth values": (lambda c: c > 3, "type of codes"),
    "complex": (lambda c: c + 1j, "type of codes"),
    "empty": (lambda c: c[:, :0], "empty"),
    "pickled": (lambda c: np.array([{"a": 1}], dtype=object), "its sound or codes"),
    "words": (lambda c: c.astype(str), "its sound or codes"),
}


def test_bad_codes_are_left_out_and_the_rest_is_prepared(lm: EncodecLM, tmp_path: Path) -> None:  # noqa: F811
    rng = np.random.default_rng(0)
    good = rng.integers(0, STOP, (lm.num_codebooks, 60))
    np.save(tmp_path / "good.npy", good)
    np.save(tmp_path / "narrow.npy", good.astype(np.uint8))
    lines = [{"id": name, "text": "hello there", "codes": f"{name}.npy"} for name in ("good", "narrow")]
    lines.append({"id": "listed", "text": "hello there", "codes": good.tolist()})
    for name, (change, _) in BAD_CODES.items():
        np.save(tmp_path / f"{name}.npy", change(good), allow_pickle=True)
        lines.append({"id": name, "text": "hello there", "codes": f"{name}.npy"})
    (tmp_path / "hollow.npy").write_bytes(b"")
    header = (tmp_path / "good.npy").read_bytes()
    (tmp_path / "header.npy").write_bytes(header.replace(b"}", b"("))  # tokenize.TokenError
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 cut")  # zipfile.BadZipFile
    os.mkfifo(tmp_path / "pipe.npy")
    unreadable = ("hollow", "missing", "header", "zip", "pipe")
    for name in unreadable:
        lines.append({"id": name, "text": "hello there", "codes": f"{name}.npy"})
    lines.append({"id": "ragged", "text": "hello there", "codes": [[1, 2], [3]]})
    cache = prepare(manifest(tmp_path, lines), lm, tmp_path / "cache", workers=0)
    assert ids(cache) == ["good", "narrow", "listed"]
    for example in read(cache.folder, "train", cache.fingerprint):
        assert example.codes.tolist() == good.tolist()
    expected = {name: why for name, (_, why) in BAD_CODES.items()}
    assert reasons(cache) == {**expected, **dict.fromkeys((*unreadable, "ragged"), "its sound or codes")}


@pytest.mark.parametrize("name", ["llasa", "orpheus"])
def test_the_codes_of_a_model_are_those_that_it_can_speak(name: str, tmp_path: Path) -> None:
    write_model(tmp_path, name, tied=False)
    model: CausalSpeechLM = CausalSpeechLM(pretrained=str(tmp_path), format=shipped_format(name))
    allowed = allowed_codes(model)
    sizes = [slot.size for slot in model.format.speech_tokens]
    books = sorted(range(len(sizes)), key=lambda slot: (model.format.speech_tokens[slot].codebook, slot))
    assert allowed.sum(1).tolist() == [sizes[slot] for slot in books]
    assert allowed.shape[0] == model.layout.rows_of_codes
    largest = (allowed.sum(1) - 1)[:, None]
    columns = model.layout.to_columns(check_codes(largest, allowed))
    assert int(columns.max()) < model.layout.stop_id
    with pytest.raises(Unusable, match="is not a code of the model"):
        check_codes(largest + 1, allowed)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("yes.", 0.3),
        ("no", 6.0),
        (TEXT, 1.2),
        (TEXT, 25.0),
        ("1,234,567.89", 9.0),
        ("今天天气很好。", 0.9),
        ("<strong>no</strong> [laughter]", 0.4),
        ("the quick brown fox jumps over the lazy dog and runs away", 2.2),
    ],
)
def test_natural_rates_of_speech_are_used(text: str, seconds: float) -> None:
    check_text(text)
    check_rate(text, seconds)


@pytest.mark.parametrize(
    ("text", "seconds", "why"),
    [
        ("the quick brown fox jumps over the lazy dog and runs away", 1.5, "too short for its text"),
        ("今天天气很好，我们一起去公园散步吧。", 0.9, "too short for its text"),
        ("no", 20.0, "too long for its text"),
    ],
)
def test_a_part_of_a_recording_or_a_text_is_refused(text: str, seconds: float, why: str) -> None:
    with pytest.raises(Unusable) as caught:
        check_rate(text, seconds)
    assert caught.value.why == why


@pytest.mark.parametrize("text", ["", "  ", "?!", "...", "—", "♪", "\u0301"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match=r"no word|is empty"):
        check_text(text)


@dataclass
class Claims:
    """A corpus that says how long its sound is before it is read."""

    claims: dict[str, float]
    read: list[str]
    sample_rate: int = SAMPLE_RATE
    fingerprint: str = "claims"

    def utterances(self, split: str) -> list[Utterance]:
        return [Utterance(f"{split}-{name}", TEXT, "a") for name in self.claims]

    def seconds(self, utterance: Utterance) -> float:
        return self.claims[utterance.id.partition("-")[2]]

    def audio(self, utterance: Utterance) -> torch.Tensor:
        self.read.append(utterance.id)
        return speech()


def test_what_a_source_claims_is_checked_before_its_sound_is_read(lm: EncodecLM, capsys) -> None:  # noqa: F811
    length = len(speech()) / SAMPLE_RATE
    claims = {
        "right": length,
        "negative": -1.0,
        "none": 0.0,
        "nan": float("nan"),
        "hours": 36_000.0,
        "more": 2 * length,
    }
    source = Claims(claims, [])
    check_source(source, lm, workers=0)
    printed = capsys.readouterr().out
    assert source.read == [f"{split}-{name}" for split in SPLITS for name in ("right", "more")]
    assert "train-negative: its duration is -1 s" in printed
    assert "train-more: its sound was cut off" in printed
    for reason in ("empty: 3", "too long: 1"):
        assert printed.count(reason) == len(SPLITS)


@dataclass
class Silences:
    """Speech after silence: each voice in turn."""

    before: float
    sample_rate: int = SAMPLE_RATE

    @property
    def fingerprint(self) -> str:
        return f"silences {self.before}"

    def utterances(self, split: str) -> list[Utterance]:
        return [Utterance(f"{split}-{i}", TEXT, f"speaker-{i // 2}") for i in range(6)]

    def audio(self, utterance: Utterance) -> torch.Tensor:
        i = int(utterance.id[-1])
        return torch.cat([torch.zeros(int(self.before * SAMPLE_RATE)), speech(voice=i // 2)])


def test_references_of_prepared_speech_begin_with_speech(tmp_path: Path) -> None:
    model = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE, reference_seconds=0.5))
    source = Silences(1.0)
    cache = prepare(source, model, tmp_path, workers=0, splits=["train"])
    codec = model.load_codec()
    whole = {u.id: codec.encode(source.audio(u)[None, None], SAMPLE_RATE)[0, 0] for u in source.utterances("train")}
    for example in read(cache.folder, "train", cache.fingerprint):
        heard = example.conditioning["ids"][~example.conditioning["is_text"]][:25, 0]
        windows = whole[str(example.reference)].unfold(0, 25, 1)
        (start,) = (windows == heard).all(1).nonzero()[:, 0].tolist()
        assert start >= 45  # the speech begins in frame 50, and its onset is part of it
