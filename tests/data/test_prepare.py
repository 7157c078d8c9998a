"""From a corpus to shards, with a tiny codec of random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import EncodecConfig, EncodecModel

from tests.conftest import TINY
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.worker import WorkerCodec
from wand.data import prepare as preparation
from wand.data.check import check_cache
from wand.data.example import Example
from wand.data.fingerprint import cache_fingerprint
from wand.data.prepare import prepare, shard_cache
from wand.data.shards import Shard
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SPLITS, SpeechSource, Utterance
from wand.files.audio import resample

SIZES = {"train": 5, "validation": 2, "test": 1}


@dataclass
class Tones:
    """A corpus of tones; it counts how often its sound is asked for."""

    sample_rate: int = 16_000
    fingerprint: str = "tones"
    text: str = "hello"
    asked: list[str] = field(default_factory=list)

    def utterances(self, split: str) -> list[Utterance]:
        return [
            Utterance(f"{split}-{i}", f"{self.text} {'ab'[i % 2]}", f"speaker-{i % 2}") for i in range(SIZES[split])
        ]

    def audio(self, utterance: Utterance) -> torch.Tensor:
        self.asked.append(utterance.id)
        index = int(utterance.id[-1])
        return 0.3 * torch.sin(torch.arange(8000 + 320 * index) * 0.05 * (1 + index))


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = EncodecConfig(
        sampling_rate=16_000,
        target_bandwidths=[1.6],
        upsampling_ratios=[5, 4, 4, 4],
        codebook_size=TINY.codebook_size,
        hidden_size=8,
        codebook_dim=8,
        num_filters=2,
        num_lstm_layers=1,
    )
    model = EncodecModel(config)
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("codec")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def lm(codec_folder: str) -> EncodecLM:
    return EncodecLM(architecture=replace(TINY, codec=codec_folder))


def read(folder: Path, split: str, fingerprint: str) -> list[Example]:
    return [example for file in sorted(folder.glob(f"{split}-*")) for example in Shard(file, fingerprint)]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "UTTERANCES_PER_SHARD", 2)


def test_shards_hold_the_corpus(lm, tmp_path):
    source = Tones()
    assert isinstance(source, SpeechSource)
    cache = prepare(source, lm, tmp_path, workers=0)
    codec = lm.load_codec()
    for split in SPLITS:
        utterances = source.utterances(split)
        assert [file.name for file in cache.shards(split, len(utterances))] == [
            file.name for file in sorted(cache.folder.glob(f"{split}-*"))
        ]
        examples = read(cache.folder, split, cache.fingerprint)
        assert [(e.id, e.text, e.speaker) for e in examples] == [(u.id, u.text, u.speaker) for u in utterances]
        for example, utterance in zip(examples, utterances, strict=True):
            codes = codec.encode(source.audio(utterance)[None, None], source.sample_rate)[0]
            assert torch.equal(example.codes, codes)
            assert codes.unique().numel() > 1


def test_what_is_there_is_not_made_again(lm, tmp_path):
    source = Tones()
    cache = prepare(source, lm, tmp_path, workers=0)
    before = read(cache.folder, "train", cache.fingerprint)
    source.asked.clear()
    prepare(source, lm, tmp_path, workers=0)
    assert source.asked == []
    cache.shard("train", 1).unlink()
    prepare(source, lm, tmp_path, workers=0)
    assert source.asked == ["train-2", "train-3"]
    for old, new in zip(before, read(cache.folder, "train", cache.fingerprint), strict=True):
        assert (old.id, old.text, old.speaker) == (new.id, new.text, new.speaker)
        assert torch.equal(old.codes, new.codes)
        assert torch.equal(old.conditioning["ids"], new.conditioning["ids"])


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_shard_whose_index_is_damaged_is_made_again(lm, tmp_path, capsys):
    source = Tones()
    cache = prepare(source, lm, tmp_path, workers=0)
    path = cache.shard("train", 1)
    whole = path.read_bytes()
    for change in (lambda: damage(path, 100), lambda: path.write_bytes(whole[:-1]), lambda: path.write_bytes(b"")):
        change()
        source.asked.clear()
        prepare(source, lm, tmp_path, workers=0)
        assert source.asked == ["train-2", "train-3"]
        assert path.read_bytes() == whole
        assert f"shard {path} is damaged: it is made again" in capsys.readouterr().out


def test_a_shard_of_an_earlier_format_is_made_again(lm, tmp_path):
    cache = prepare(Tones(), lm, tmp_path, workers=0)
    path = cache.shard("train", 0)
    whole = path.read_bytes()
    save_file({"codes.values": torch.zeros(3, 1)}, path, {"format": "2", "fingerprint": cache.fingerprint})
    prepare(Tones(), lm, tmp_path, workers=0)
    assert path.read_bytes() == whole


def test_a_complete_cache_takes_no_lock_and_no_look_at_the_corpus(lm, tmp_path):
    """It may lie on a file system that is read-only."""
    cache = prepare(Tones(), lm, tmp_path, workers=0)
    before = {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    (cache.folder / ".lock").unlink(missing_ok=True)
    before.pop(".lock", None)

    class Unlisted(Tones):
        def utterances(self, split: str) -> list[Utterance]:
            raise AssertionError("the corpus was listed")

    assert prepare(Unlisted(), lm, tmp_path, workers=0) == cache
    assert {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()} == before


def test_a_cache_that_cannot_be_written_is_told_in_one_line(lm, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written \(Not a directory\): set --data.cache_dir"):
        prepare(Tones(), lm, tmp_path / "file", workers=0)


def test_a_preparation_that_ended_before_its_report_gives_it(lm, tmp_path, capsys):
    cache = prepare(Tones(), lm, tmp_path, workers=0)
    (cache.folder / "splits.json").write_text("{")  # half-written, or of nobody
    capsys.readouterr()
    source = Tones()
    prepare(source, lm, tmp_path, workers=0)
    assert source.asked == []
    assert "utterances" in capsys.readouterr().out
    assert cache.finished() == SIZES


def test_a_check_reads_every_byte(lm, tmp_path, capsys):
    source = Tones()
    cache = prepare(source, lm, tmp_path, workers=0)
    source.asked.clear()
    check_cache(cache)
    assert "5 shards with 8 utterances are undamaged" in capsys.readouterr().out
    damage(cache.shard("train", 1), -1)
    cache.shard("validation", 0).write_bytes(b"")
    cache.shard("test", 0).unlink()
    with pytest.raises(ValueError, match=r"3 of 5 shards .* are damaged: delete them"):
        check_cache(cache)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("shard ")]
    assert [line.split()[1] for line in lines] == [
        str(cache.shard(split, i)) for split, i in (("train", 1), ("validation", 0), ("test", 0))
    ]
    assert "row 1" in lines[0]
    assert source.asked == []
    for split, i in (("train", 1), ("validation", 0)):
        cache.shard(split, i).unlink()
    prepare(source, lm, tmp_path, workers=0)
    check_cache(cache)


def test_a_split_that_was_never_prepared_cannot_be_checked(lm, tmp_path):
    cache = prepare(Tones(), lm, tmp_path, workers=0, splits=["test"])
    check_cache(cache, ["test"])
    with pytest.raises(ValueError, match="no finished preparation of train"):
        check_cache(cache)


def test_only_the_splits_that_are_asked_for(lm, tmp_path):
    source = Tones()
    prepare(source, lm, tmp_path, workers=0, splits=["test"])
    assert source.asked == ["test-0"]


def test_everything_that_determines_shards_is_in_their_name(lm, codec_folder, tmp_path):
    codec = lm.load_codec()
    other = EncodecLM(architecture=replace(TINY, codec=codec_folder))
    other.conditioner = replace(lm.conditioner, reference_frames=9)
    fingerprints = {
        cache_fingerprint(Tones(), lm, codec),
        cache_fingerprint(Tones(fingerprint="other"), lm, codec),
        cache_fingerprint(Tones(), other, codec),
        cache_fingerprint(Tones(), lm, EncodecLM(architecture=two_codebooks(codec_folder)).load_codec()),
    }
    assert len(fingerprints) == 4
    assert shard_cache(Tones(), lm, tmp_path).fingerprint in fingerprints


def two_codebooks(codec_folder: str):
    return replace(TINY, codec=codec_folder, num_codebooks=2)


def test_another_sample_rate_is_brought_to_the_codecs(lm, tmp_path):
    source = Tones(sample_rate=24_000)
    cache = prepare(source, lm, tmp_path, workers=0, splits=["test"])
    (example,) = read(cache.folder, "test", cache.fingerprint)
    audio = resample(source.audio(source.utterances("test")[0]), 24_000, 16_000)
    assert torch.equal(example.codes, lm.load_codec().encode(audio[None, None], 16_000)[0])


def test_a_codec_that_does_not_work_ends_the_preparation_at_once(lm, tmp_path):
    """Not a refusal of every utterance."""
    weights = tmp_path / "BiCodec" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    lm.codec = WorkerCodec("spark_tts", "/no/python", str(tmp_path))
    source = Tones()
    with pytest.raises(ValueError, match="/no/python cannot be started"):
        prepare(source, lm, tmp_path, workers=0)
    assert source.asked == ["train-0"]


def test_a_corpus_of_which_nothing_can_be_used_is_refused(lm, tmp_path):
    for _ in range(2):  # the second time as the first
        with pytest.raises(ValueError, match=r"no utterance of train .* 'ï'"):
            prepare(Tones(text="naïve"), lm, tmp_path, workers=0)
    assert list(tmp_path.glob("*/*.safetensors")) == []


@dataclass
class Flawed(Tones):
    """One utterance each that is missing, too short, too long, or cannot be spelled."""

    def utterances(self, split: str) -> list[Utterance]:
        texts = {"train-1": "naïve"}
        return [replace(u, text=texts.get(u.id, u.text)) for u in Tones.utterances(self, split)]

    def audio(self, utterance: Utterance) -> torch.Tensor:
        if utterance.id == "train-0":
            raise ValueError("no sound file at nowhere.wav")
        lengths = {"train-2": 1000, "validation-0": 40_000}
        return 0.3 * torch.sin(torch.arange(lengths.get(utterance.id, 8000)) * 0.05)


def test_what_cannot_be_used_is_left_out_and_told(lm, tmp_path, capsys):
    cache = prepare(Flawed(), lm, tmp_path, workers=0, max_seconds=2.0)
    assert [e.id for e in read(cache.folder, "train", cache.fingerprint)] == ["train-3", "train-4"]
    assert [e.id for e in read(cache.folder, "validation", cache.fingerprint)] == ["validation-1"]
    told = [json.loads(line) for line in (cache.folder / "refused.jsonl").read_text().splitlines()]
    assert [(line["split"], line["id"], line["why"]) for line in told] == [
        ("train", "train-0", "its sound or codes"),
        ("train", "train-1", "its text or reference"),
        ("train", "train-2", "too short"),
        ("validation", "validation-0", "too long"),
    ]
    assert "nowhere.wav" in told[0]["detail"]
    assert "2.5 s" in told[3]["detail"]
    assert "too short: 1" in capsys.readouterr().out
    again = prepare(Flawed(), lm, tmp_path, workers=0, max_seconds=2.0)
    assert again == cache


@pytest.mark.parametrize(
    ("speakers", "per_shard", "own", "many"),
    [("ababab", 2, 6, True), ("aabbab", 2, 2, True), ("ababab", 6, 0, False), ("aaabbc", 6, 1, False)],
)
def test_utterances_that_are_their_own_reference_are_counted(
    lm, tmp_path, capsys, monkeypatch, speakers, per_shard, own, many
):
    monkeypatch.setattr(preparation, "UTTERANCES_PER_SHARD", per_shard)
    codes = [[1] * 60] * lm.num_codebooks
    lines = [json.dumps({"text": "hello", "speaker": one, "codes": codes, "split": "train"}) for one in speakers]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    prepare(ManifestCorpus(str(tmp_path / "corpus.jsonl")), lm, tmp_path, workers=0, splits=["train"])
    said = capsys.readouterr()
    told = f"{own} of 6 utterances of train are their own reference"
    assert (told in said.out) == (own > 0 and not many)
    assert (told in said.err) == ("sort the corpus by speaker" in said.err) == many


def test_processes_make_the_same_shards(lm, tmp_path):
    one = prepare(Flawed(), lm, tmp_path / "one", workers=0)
    two = prepare(Flawed(), lm, tmp_path / "two", workers=2)
    files = sorted(path.name for path in one.folder.glob("*.safetensors"))
    assert files == sorted(path.name for path in two.folder.glob("*.safetensors"))
    for name in files:
        pairs = zip(*(Shard(cache.folder / name, cache.fingerprint) for cache in (one, two)), strict=True)
        for own, other in pairs:
            assert (own.id, own.reference) == (other.id, other.reference)
            assert torch.equal(own.codes, other.codes)
            assert torch.equal(own.conditioning["ids"], other.conditioning["ids"])
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
        refused = [Shard(cache.folder / name, cache.fingerprint).refusals() for cache in (one, two)]
        assert refused[0] == refused[1]
