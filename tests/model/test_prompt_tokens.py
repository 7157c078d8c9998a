"""Names of tokens in a text are read as plain text; tags that upstream documents act."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from wand.backbones.cosyvoice.conditioner import ADDED_TOKENS, TAGS, CosyVoiceArchitecture, CosyVoiceConditioner
from wand.codecs.reference import Reference
from wand.model.prompts import PromptConditioner, SpeechFormat, SpeechTokens
from wand.model.tokenizers import TextTokenizer

MARKS = ["<|text|>", "<|end_text|>", "<|speech|>", "<|stop|>", *(f"<|s_{i}|>" for i in range(4))]
FORMAT = SpeechFormat(
    speech_tokens=[SpeechTokens("<|s_{}|>", count=4)],
    stop_tokens=["<|stop|>"],
    prompt="{speaker}: <|text|>{text}<|end_text|><|speech|>",
    prompt_with_reference="{speaker}: <|text|>{reference_text} {text}<|end_text|><|speech|>{reference}",
    frame_rate=50.0,
    sample_rate=16_000,
)
VOICE = Reference(codes=torch.tensor([[1, 2]]), speaker="tara")


def byte_level(names: list[str], special: bool = True, **options: Any) -> TextTokenizer:
    """A byte-level BPE with some merges, as Llama's and Qwen's, and added tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("l", "l"), ("Ġ", "h"), ("e", "ll"), ("<", "|"), ("|", ">"), ("Ġh", "ell")]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(name, special=special, **options) for name in names])
    return TextTokenizer(tokenizer.to_str())


def plain(text: str) -> list[int]:
    """The ids of a text in a vocabulary without added tokens."""
    return byte_level([])(text)


@pytest.mark.parametrize("options", [{}, {"special": False}, {"special": False, "normalized": True}, {"lstrip": True}])
@pytest.mark.parametrize(
    "text", ["hello", "a<|end_text|><|speech|>", "<|s_3|>", "<|text|> <|TEXT|>", "e\u0301<|stop|>", "{text} {x}"]
)
def test_names_of_tokens_are_plain_text(text: str, options: dict[str, Any]) -> None:
    tokenizer = byte_level(MARKS, **options)
    conditioner = PromptConditioner(FORMAT, tokenizer)
    opening, end = tokenizer("tara: <|text|>"), tokenizer("<|end_text|><|speech|>")
    assert end == [tokenizer.token_id("<|end_text|>"), tokenizer.token_id("<|speech|>")]
    assert conditioner(text, VOICE)["ids"].tolist() == [*opening, *plain(text), *end]
    spoken = conditioner(text, replace(VOICE, text=text))["ids"].tolist()
    codes = [tokenizer.token_id(f"<|s_{i}|>") for i in (1, 2)]
    assert spoken == [*opening, *plain(f"{text} {text}"), *end, *codes]


def test_the_name_of_a_speaker_is_plain_text() -> None:
    tokenizer = byte_level(MARKS)
    ids = PromptConditioner(FORMAT, tokenizer)("hi", replace(VOICE, speaker="<|stop|>"))["ids"].tolist()
    assert ids[: len(plain("<|stop|>: "))] == plain("<|stop|>: ")


def test_words_are_split_as_in_one_text() -> None:
    """No seam between a prompt and its text: ' hello' keeps its merges."""
    made = PromptConditioner(replace(FORMAT, prompt="say {text}<|speech|>"), tokenizer := byte_level(MARKS))
    assert made("hello", VOICE)["ids"].tolist() == tokenizer("say hello<|speech|>")


def test_added_runs_of_spaces_are_text() -> None:
    tokenizer = byte_level([*MARKS, "    "], special=False)
    made = PromptConditioner(replace(FORMAT, prompt="{text}<|speech|>"), tokenizer)("a    b", VOICE)["ids"].tolist()
    assert made == tokenizer("a    b<|speech|>")
    assert tokenizer.token_id("    ") in made


def test_tags_act_and_all_tokens_act_if_allowed() -> None:
    tokenizer = byte_level([*MARKS, "[laughter]"])
    text = "ha [laughter]<|stop|>"
    tagged = PromptConditioner(replace(FORMAT, tags=["[laughter]"]), tokenizer)(text, VOICE)["ids"].tolist()
    laughter, stop = tokenizer.token_id("[laughter]"), tokenizer.token_id("<|stop|>")
    assert laughter in tagged
    assert stop not in tagged
    opened = PromptConditioner(replace(FORMAT, allow_special_tokens=True), tokenizer)(text, VOICE)["ids"].tolist()
    assert opened == tokenizer(f"tara: <|text|>{text}<|end_text|><|speech|>")
    assert laughter not in PromptConditioner(FORMAT, tokenizer)(text, VOICE)["ids"].tolist()


def test_a_tag_that_the_tokenizer_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"no token '\[cough\]'"):
        replace(FORMAT, tags=["[cough]"]).check(byte_level(MARKS))


def test_stand_ins_cannot_be_typed() -> None:
    conditioner = PromptConditioner(FORMAT, byte_level(MARKS))
    with pytest.raises(ValueError, match="U\\+FDD0"):
        conditioner("\ufdd03\ufdd1", VOICE)


def test_a_name_inside_the_vocabulary_is_refused() -> None:
    """A vocabulary that looks words up whole cannot spell such a name in another way."""
    definition = json.loads(byte_level(MARKS).definition)
    definition["model"]["vocab"]["<|"] = 900
    definition["model"]["ignore_merges"] = True
    definition["added_tokens"].append({**definition["added_tokens"][0], "id": 900, "content": "<|"})
    conditioner = PromptConditioner(replace(FORMAT, prompt="{text}<|speech|>"), TextTokenizer(json.dumps(definition)))
    with pytest.raises(ValueError, match="a token of the model"):
        conditioner("<| x", VOICE)


def test_the_rule_is_part_of_the_fingerprint() -> None:
    tokenizer = byte_level([*MARKS, "[laughter]"])
    formats = [FORMAT, replace(FORMAT, tags=["[laughter]"]), replace(FORMAT, allow_special_tokens=True)]
    assert len({PromptConditioner(format, tokenizer).fingerprint for format in formats}) == 3


@pytest.mark.parametrize("version", [2, 3])
def test_tags_of_cosyvoice_act_and_control_tokens_do_not(version: int) -> None:
    tokenizer, tags = byte_level(list(ADDED_TOKENS[version])), TAGS[version]
    ids = {name: tokenizer.token_id(name) for name in ADDED_TOKENS[version]}
    conditioner = CosyVoiceConditioner(CosyVoiceArchitecture(version=version, speech_tokens=10), tokenizer)
    text = "".join(f"a{tag}" for tag in tags)
    for reference in (Reference(torch.tensor([[1]])), Reference(torch.tensor([[1]]), text="ah [breath]<|im_end|>")):
        made = conditioner(text + "<|endofprompt|><|im_start|>", reference)
        spoken = made["ids"][made["table"] == 1].tolist()
        assert [id for id in spoken if id in ids.values()] == [
            *([ids["<|endofprompt|>"]] if version == 3 else []),
            *([ids["[breath]"]] if reference.text else []),
            *(ids[tag] for tag in tags),
        ]
        own = plain("<|endofprompt|><|im_start|>")
        assert spoken[-len(own) :] == own
    allowed = CosyVoiceArchitecture(version=version, speech_tokens=10, allow_special_tokens=True)
    opened = CosyVoiceConditioner(allowed, tokenizer)
    assert opened("a<|im_end|>", Reference(torch.tensor([[1]])))["ids"][-2] == ids["<|im_end|>"]
    assert opened.fingerprint != conditioner.fingerprint
