"""Training data from the teacher: the original's own speech, the same whenever it is made."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from zlib import crc32

import pytest
import torch

from tests.backbones import index_tts
from tests.backbones.test_causal_lm import make_model, shipped_format, write_model
from wand.attention import AttentionWindow
from wand.backbones.causal_lm import CausalSpeechLM
from wand.backbones.index_tts import IndexTTS
from wand.codecs.reference import Reference
from wand.data import prepare as preparation
from wand.data.check import check_source
from wand.data.example import Example, Refusal
from wand.data.prepare import prepare
from wand.data.shards import Shard
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SPLITS
from wand.data.sources.teacher_samples import TeacherSamples, TeacherSpeech
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.files.audio import write_audio
from wand.files.turns import Task
from wand.model.batch import make_batch

LETTERS = "abcdefgh"


@pytest.fixture
def model(tmp_path: Path) -> CausalSpeechLM:
    """A model that stops soon, with random weights."""
    folder = write_model(tmp_path / "release", "llasa", tied=False)
    with torch.no_grad():
        made = make_model(tmp_path / "release", "llasa", tied=False)
        made.lm_head.weight.mul_(3)
        made.save_pretrained(folder)
    return CausalSpeechLM(pretrained=str(folder), format=shipped_format("llasa"))


@pytest.fixture
def source(tmp_path: Path) -> TeacherSamples:
    lines = [
        {"id": f"p{i}", "text": f"prompt {LETTERS[i]}", "speaker": "xy"[i % 2], "codes": [i, i + 1, i + 2]}
        for i in range(6)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    texts = [f"say {a}{b}" for a in LETTERS for b in LETTERS[:5]]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n\n")
    prompts = ManifestCorpus(str(tmp_path / "prompts.jsonl"), 0.0, 0.0)
    return TeacherSamples(str(tmp_path / "texts.txt"), prompts, 0.2, 0.2, rows=4)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "UTTERANCES_PER_SHARD", 8)
    monkeypatch.setattr("wand.data.encoding.SHORTEST", 0.0)


def read(cache: preparation.ShardCache) -> list[Example]:
    files = sorted(cache.folder.glob("*.safetensors"))
    return [example for file in files for example in Shard(file, cache.fingerprint)]


def test_what_is_kept_is_what_the_original_says(model: CausalSpeechLM, source: TeacherSamples, tmp_path: Path) -> None:
    cache = prepare(source, model, tmp_path / "cache", workers=0, max_seconds=4.0)
    examples = read(cache)
    refused = [json.loads(line) for line in (cache.folder / "refused.jsonl").read_text().splitlines()]
    asked = {u.id: u for split in SPLITS for u in source.utterances(split)}
    assert len(examples) + len(refused) == len(asked) == 40
    assert len(examples) > 10
    assert {line["why"] for line in refused} <= {"ended by length", "ended by loop", "ended by silence"}
    model.load_pretrained()
    for example in examples[:6]:
        prompt = source.voices[str(example.reference)]
        assert asked[example.id].reference == prompt.id
        own = source.prompts.codes(prompt)  # type: ignore[attr-defined]
        conditioning = model.conditioner(example.text, Reference(own.codes, text=prompt.text))
        assert torch.equal(example.conditioning["ids"], conditioning["ids"])
        batch = make_batch(model.conditioner, model.layout, [conditioning])
        seed = crc32(f"{example.id}/0".encode())
        (alone,) = generate(Decoder(model.eval(), AttentionWindow()), batch, rules=StopRules(200), seeds=[seed])
        assert torch.equal(alone.codes, example.codes)


def test_two_tasks_give_the_files_of_one_preparation(
    model: CausalSpeechLM, source: TeacherSamples, tmp_path: Path
) -> None:
    whole = prepare(source, model, tmp_path / "whole", workers=0, max_seconds=4.0)
    for number in (2, 1):
        shared = prepare(source, model, tmp_path / "shared", workers=0, max_seconds=4.0, task=Task(number, 2))
    files = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    assert {path.name: path.read_bytes() for path in shared.folder.iterdir()} == files
    assert len(files) > 4


def test_a_preparation_that_was_cut_short_goes_on(
    model: CausalSpeechLM, source: TeacherSamples, tmp_path: Path
) -> None:
    cache = prepare(source, model, tmp_path / "cache", workers=0, max_seconds=4.0)
    before = read(cache)
    gone = cache.shard("train", 1)
    gone.unlink()
    prepare(source, model, tmp_path / "cache", workers=0, max_seconds=4.0)
    for one, other in zip(before, read(cache), strict=True):
        assert one.id == other.id
        assert torch.equal(one.codes, other.codes)


def test_other_weights_say_something_else(model: CausalSpeechLM, source: TeacherSamples, tmp_path: Path) -> None:
    first = preparation.shard_cache(source, model, tmp_path)
    model.load_pretrained()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(Path(str(model.pretrained)))
    assert preparation.shard_cache(source, model, tmp_path).fingerprint != first.fingerprint


def test_texts_are_split_once_and_for_all(source: TeacherSamples) -> None:
    texts = [utterance.text for split in SPLITS for utterance in source.utterances(split)]
    assert sorted(texts) == sorted(source.texts)
    again = pickle.loads(pickle.dumps(source))
    assert [again.utterances(split) for split in SPLITS] == [source.utterances(split) for split in SPLITS]
    assert len({utterance.reference for utterance in source.utterances("train")}) > 2


def test_a_text_without_words_is_not_spoken(model: CausalSpeechLM, source: TeacherSamples, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("say it\n... !\nsay more\n")
    few = TeacherSamples(str(tmp_path / "few.txt"), source.prompts, 0.0, 0.0)
    speech = TeacherSpeech(few, model, None, 30.0)
    refused = [one for one in speech.speak(few.utterances("train"), lambda _: None) if isinstance(one, Refusal)]
    assert [(one.id, one.detail) for one in refused if one.why == "no words"] == [
        ("text-000001", "its text '... !' has no word")
    ]


def test_the_check_takes_a_prompt_of_any_length(
    model: CausalSpeechLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t = torch.arange(32_000) / 16_000
    write_audio(tmp_path / "long.wav", 0.3 * torch.sin(2 * torch.pi * 200 * t), 16_000)
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"text": "a prompt", "audio": "long.wav"}))
    (tmp_path / "texts.txt").write_text("say it\n")
    prompts = ManifestCorpus(str(tmp_path / "prompts.jsonl"), 0.0, 0.0)
    check_source(TeacherSamples(str(tmp_path / "texts.txt"), prompts), model, 0, max_seconds=1.0)
    assert "too long" not in capsys.readouterr().out


def test_what_is_missing_is_told(model: CausalSpeechLM, source: TeacherSamples, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file of texts"):
        TeacherSamples(str(tmp_path / "none.txt"), source.prompts)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="no text in"):
        TeacherSamples(str(tmp_path / "empty.txt"), source.prompts)


def test_a_model_that_only_hears_its_prompts_needs_no_codec(tmp_path: Path) -> None:
    """IndexTTS: sounds in, its own speech out, and nobody makes codes of the sounds."""
    state = dict(index_tts.GOLDEN.state)
    state["mel_head.bias"] = state["mel_head.bias"].clone()
    state["mel_head.bias"][-1] += 6  # it stops soon
    model = IndexTTS(pretrained=str(index_tts.write_release(tmp_path / "release", state)))
    write_audio(tmp_path / "voice.wav", 0.1 * torch.randn(24_000), 24_000)
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"text": "a voice", "audio": "voice.wav"}))
    (tmp_path / "texts.txt").write_text("\n".join(f"say {a}{b}" for a in LETTERS for b in LETTERS))
    prompts = ManifestCorpus(str(tmp_path / "prompts.jsonl"), 0.0, 0.0)
    source = TeacherSamples(str(tmp_path / "texts.txt"), prompts, 0.2, 0.2)
    examples = read(prepare(source, model, tmp_path / "cache"))
    assert len(examples) > 10
    sound = prompts.audio(prompts.utterances("train")[0])
    for example in examples:
        expected = model.conditioner(example.text, Reference(torch.zeros(1, 0), sound))
        assert torch.equal(example.conditioning["mel"], expected["mel"])
        assert torch.equal(example.conditioning["text"], expected["text"])
