"""Any causal language model by configuration: the shipped formats of Llasa, NeuTTS and Orpheus on tiny models."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config

from tests.backbones.contract import Contract, columns_of_tokens
from tests.backbones.tokenizers import write_tokenizer
from wand.attention import AttentionContext, AttentionWindow
from wand.backbones.causal_lm import CausalSpeechLM
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.model.batch import make_batch
from wand.model.prompts import SpeechFormat, SpeechTokens
from wand.testing import Examples
from wand.text.front_end import SYMBOLS

CONFIGS = Path(__file__).parents[2] / "configs"
CODES = 12
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
MARKS = {
    "llasa": [
        *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        *("<|TEXT_UNDERSTANDING_START|>", "<|TEXT_UNDERSTANDING_END|>"),
        *("<|SPEECH_GENERATION_START|>", "<|SPEECH_GENERATION_END|>"),
    ],
    "neutts": [
        *("<|TEXT_PROMPT_START|>", "<|TEXT_PROMPT_END|>", "<|SPEECH_GENERATION_START|>", "<|SPEECH_GENERATION_END|>")
    ],
    "orpheus": ["<|begin_of_text|>", "<|eot_id|>", *(f"<custom_token_{i}>" for i in range(10))],
}
SERIES = {"llasa": "<|s_{}|>", "neutts": "<|speech_{}|>", "orpheus": "<custom_token_{}>"}
FIRST = {"llasa": 0, "neutts": 0, "orpheus": 10}


def shipped_format(name: str) -> SpeechFormat:
    """The format of a shipped config; Orpheus's slots shrunk to a few codes each."""
    config: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))
    values = config["model"]["backbone"]["init_args"]["format"]
    defaults = asdict(SpeechFormat([SpeechTokens("{}")], ["stop"], "{text}", 1.0, 1))
    slots = [{**defaults["speech_tokens"][0], **slot} for slot in values["speech_tokens"]]
    sampling = {**defaults["sampling"], **values["sampling"]}
    made = SpeechFormat.of({**defaults, **values, "speech_tokens": slots, "sampling": sampling})
    if name == "orpheus":
        small = [replace(s, count=CODES, first=10 + CODES * i) for i, s in enumerate(made.speech_tokens)]
        made = replace(made, speech_tokens=small)
    return made


def write_model(folder: Path, name: str, tied: bool, **others: float) -> Path:
    """A tiny model of transformers whose tokenizer has the tokens of a format; `others` are settings of its config."""
    characters = dict.fromkeys([*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,:!\n", *SYMBOLS["phones"]])
    slots = 7 if name == "orpheus" else 1
    series = [SERIES[name].format(FIRST[name] + i) for i in range(CODES * slots)]
    vocabulary = {token: i for i, token in enumerate([*characters, *series[::-1], *MARKS[name]])}
    write_tokenizer(folder, vocabulary)
    kind = Qwen2Config if name == "neutts" else LlamaConfig
    sizes = {**SIZES, "num_key_value_heads": 2, "vocab_size": len(vocabulary) + 3, **others}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(kind(**sizes, tie_word_embeddings=tied)).save_pretrained(folder)
    return folder


def make_model(folder: Path, name: str, tied: bool = True, **others: float) -> CausalSpeechLM:
    model = CausalSpeechLM(pretrained=str(write_model(folder, name, tied, **others)), format=shipped_format(name))
    model.load_pretrained()
    return model.eval()


def voice(name: str, words: str | None = "so it is") -> Reference:
    codes = torch.randint(0, CODES, (7 if name == "orpheus" else 1, 4))
    return Reference(codes=codes, text=words, speaker="tara")


@pytest.mark.parametrize("name", list(MARKS))
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_transformers_own_on_the_allowed_rows(tmp_path: Path, name: str, tied: bool) -> None:
    model = make_model(tmp_path, name, tied)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    conditioning = model.conditioner("hello.", voice(name))
    codes = torch.randint(0, CODES, (7 if name == "orpheus" else 1, 3))
    batch = make_batch(model.conditioner, model.layout, [conditioning], [codes])
    ids = torch.cat([conditioning["ids"], model.speech_ids[batch.columns[0, :, 0]]])
    with torch.no_grad():
        expected = stock(ids[None]).logits[0, len(conditioning["ids"]) - 1 :]
        logits = model(batch, AttentionWindow())[0, :, 0]
        full = model.full_logits(model.hidden_states(batch, AttentionContext(AttentionWindow(), batch.prefix_length)))[
            0, batch.prefix_length - 1 :
        ]
    torch.testing.assert_close(full, expected, atol=5e-5, rtol=0)
    torch.testing.assert_close(logits, expected[:, model.speech_ids], atol=5e-5, rtol=0)


@pytest.mark.parametrize("words", [None, "so it is"])
@pytest.mark.parametrize("name", list(MARKS))
def test_a_prompt_from_tokens_is_that_of_the_text(tmp_path: Path, name: str, words: str | None) -> None:
    conditioner = make_model(tmp_path, name).conditioner
    tokens, begin, end = columns_of_tokens(conditioner, "it is so.", reference := voice(name, words))
    assert tokens.words == ("it", "is", "so.")
    ids = conditioner("it is so.", reference)["ids"]
    assert tuple(ids[begin:end].tolist()) == tokens.ids
    blank = conditioner.known_tokenizer(" ")[0]
    assert (tokens.ids[0] == blank) == (name == "orpheus" or words is not None)
    window = conditioner.with_tokens(tokens.ids[tokens.firsts[1] :], reference)["ids"].tolist()
    after = begin + len(tokens.ids) - tokens.firsts[1]
    assert window[:begin] + window[after:] == ids[:begin].tolist() + ids[end:].tolist()


@pytest.mark.parametrize("name", list(MARKS))
def test_rows_are_the_tokens_of_their_names(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path, name)
    tokenizer = model.conditioner.known_tokenizer
    slots = 7 if name == "orpheus" else 1
    names = [SERIES[name].format(FIRST[name] + i) for i in range(CODES * slots)] + shipped_format(name).stop_tokens
    assert model.speech_ids.tolist() == [tokenizer.token_id(token) for token in names]
    assert model.speech_vocab_size == CODES * slots + 1


def test_the_prompt_of_llasa_is_its_chat(tmp_path: Path) -> None:
    model = make_model(tmp_path, "llasa")
    tokenizer, reference = model.conditioner.known_tokenizer, voice("llasa")
    head = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nConvert the text to speech:"
    asked = "<|TEXT_UNDERSTANDING_START|>{}<|TEXT_UNDERSTANDING_END|><|eot_id|>"
    tail = "<|start_header_id|>assistant<|end_header_id|>\n\n<|SPEECH_GENERATION_START|>"
    spoken = "".join(f"<|s_{code}|>" for code in reference.codes[0].tolist())
    with_words = head + asked.format("so it is hello.") + tail + spoken
    assert model.conditioner("hello.", reference)["ids"].tolist() == tokenizer(with_words)
    without = head + asked.format("hello.") + tail
    assert model.conditioner("hello.", voice("llasa", None))["ids"].tolist() == tokenizer(without)


def test_neutts_reads_phones(tmp_path: Path) -> None:
    model = make_model(tmp_path, "neutts")
    tokenizer = model.conditioner.known_tokenizer
    ids = model.conditioner("hello.", voice("neutts", None))["ids"].tolist()
    inner = ids[
        ids.index(tokenizer.token_id("<|TEXT_PROMPT_START|>")) + 1 : ids.index(
            tokenizer.token_id("<|TEXT_PROMPT_END|>")
        )
    ]
    assert inner == tokenizer("həlˈoʊ.")


def test_orpheus_calls_a_voice_by_its_name(tmp_path: Path) -> None:
    model = make_model(tmp_path, "orpheus")
    tokenizer = model.conditioner.known_tokenizer
    marks = "<custom_token_3><|begin_of_text|>tara: hello.<|eot_id|><custom_token_4><custom_token_5><custom_token_1>"
    assert model.conditioner("hello.", voice("orpheus"))["ids"].tolist() == tokenizer(marks)
    with pytest.raises(ValueError, match="which speaker"):
        model.conditioner("hello.", replace(voice("orpheus"), speaker=None))


def test_orpheus_speaks_whole_frames_in_snacs_order(tmp_path: Path) -> None:
    """Slots are the codec's codebooks 0 1 2 2 1 2 2; codes come codebook by codebook, in the order of time."""
    model = make_model(tmp_path, "orpheus")
    frame = torch.tensor([0, 1, 2, 3, 4, 5, 6])[:, None]  # c0, c1 c1, c2 c2 c2 c2
    spoken = [0, 1, 3, 4, 2, 5, 6]
    rows = [slot * CODES + code for slot, code in enumerate(spoken)]
    assert model.layout.to_columns(frame)[:, 0].tolist() == rows
    conditionings = [model.conditioner("hello.", voice("orpheus")), model.conditioner("no", voice("orpheus"))]
    batch = make_batch(model.conditioner, model.layout, conditionings)
    for one in generate(Decoder(model, AttentionWindow(14)), batch, rules=StopRules(7 * 30)):
        assert one.codes.shape[0] == 7
        assert len(one.columns) % 7 == 0
        slots = torch.arange(len(one.columns)) % 7
        assert torch.equal(one.columns[:, 0] // CODES, slots)
        assert torch.equal(model.layout.to_columns(one.codes), one.columns)


def test_the_head_is_gathered_again_when_the_weights_move(tmp_path: Path) -> None:
    model = make_model(tmp_path, "llasa")
    with torch.no_grad():
        before = model.speech_head().weight
        assert model.speech_head().weight is before
        model.decoder.get_input_embeddings().weight.add_(1)
        assert torch.equal(model.speech_head().weight, before + 1)
    assert model.speech_head().weight.requires_grad


def test_a_head_that_spoke_can_stay_frozen_in_a_training(tmp_path: Path) -> None:
    model = make_model(tmp_path, "llasa", tied=False)
    model.lm_head.requires_grad_(False)
    batch = make_batch(model.conditioner, model.layout, [model.conditioner("hello.", voice("llasa"))])
    with torch.inference_mode():
        model.speech_head()
    model(batch, AttentionWindow(4)).sum().backward()
    assert model.decoder.norm.weight.grad is not None


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_written_opens_in_transformers(tmp_path: Path, tied: bool) -> None:
    model = make_model(tmp_path / "one", "llasa", tied)
    model.save_pretrained(tmp_path / "two")
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_parts_of_large_weights_are_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tmp_path / "one", "llasa", tied=False)
    monkeypatch.setattr("wand.files.weights.SHARD_SIZE", "10KB")
    model.save_pretrained(tmp_path / "two")
    parts = sorted((tmp_path / "two").glob("model-*.safetensors"))
    assert len(parts) > 3
    again = CausalSpeechLM(pretrained=str(tmp_path / "two"), format=shipped_format("llasa"))
    again.load_pretrained()
    own, other = model.state_dict(), again.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    parts[1].unlink()
    with pytest.raises(ValueError, match=f"{parts[1].name} is missing"):
        again.load_pretrained()


def test_a_missing_token_is_named(tmp_path: Path) -> None:
    write_model(tmp_path, "llasa", tied=True)
    spelled = replace(shipped_format("llasa"), prompt="<|speak|>{text}")
    with pytest.raises(ValueError, match=r"no token '<\|speak\|>'"):
        CausalSpeechLM(pretrained=str(tmp_path), format=spelled)
    counted = replace(shipped_format("llasa"), speech_tokens=[SpeechTokens("<|s_{}|>", count=CODES + 1)])
    with pytest.raises(ValueError, match=rf"no token '<\|s_{CODES}\|>'"):
        CausalSpeechLM(pretrained=str(tmp_path), format=counted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "no place"}, "must contain {text}"),
        ({"prompt": "{text}{voice}"}, "must contain {text}"),
        ({"prompt": "{text}{global_codes}"}, "global_tokens"),
        ({"stop_tokens": []}, "stop_tokens"),
    ],
)
def test_a_format_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(shipped_format("llasa"), **changes)


def test_a_pattern_has_one_place() -> None:
    with pytest.raises(ValueError, match="for the number"):
        SpeechTokens("<|s|>")


class TestOrpheusContract(Contract):
    """The conformance suite, seven columns a frame, head and embedding apart."""

    name, tied = "orpheus", False

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "files"

    def make_backbone(self) -> CausalSpeechLM:
        return make_model(self.folder, self.name, self.tied)

    def make_examples(self, backbone: CausalSpeechLM) -> Examples:
        return [
            (backbone.conditioner("hello there.", voice(self.name)), voice(self.name).codes),
            (backbone.conditioner("no", voice(self.name, None)), voice(self.name).codes),
        ]

    def make_reference(self, backbone: CausalSpeechLM, codes: torch.Tensor) -> Reference:
        return replace(voice(self.name), codes=codes)

    def reload(self, backbone: CausalSpeechLM, folder: Path) -> CausalSpeechLM:
        again = CausalSpeechLM(pretrained=str(folder), format=backbone.format)
        again.load_pretrained()
        return again


class TestNeuTTSContract(TestOrpheusContract):
    """The conformance suite, head and embedding tied."""

    name, tied = "neutts", True


def test_an_export_says_the_same_to_transformers_4_and_5(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 64
    release = write_model(tmp_path / "release", "llasa", True)
    original = json.loads((release / "config.json").read_text())
    del original["rope_parameters"], original["dtype"]
    # As Llasa's own file, which version 4 has written.
    original |= {"rope_theta": 500_000.0, "rope_scaling": scaling, "torch_dtype": "float32"}
    (release / "config.json").write_text(json.dumps(original))
    model = CausalSpeechLM(pretrained=str(release), format=shipped_format("llasa"))
    model.load_pretrained()
    model.save_pretrained(tmp_path / "out", torch.float16)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    changed = {"torch_dtype": "float16", "transformers_version": written["transformers_version"]}
    assert {name: written.get(name) for name in original} == original | changed
    opened, expected = AutoConfig.from_pretrained(tmp_path / "out"), AutoConfig.from_pretrained(release)
    assert opened.rope_parameters == expected.rope_parameters == {**scaling, "rope_theta": 500_000.0}
    assert opened.dtype == torch.float16
    expected.dtype = torch.float16
    assert opened.to_diff_dict() == expected.to_diff_dict()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.float16
