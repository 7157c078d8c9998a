"""Text tokenizers: equal texts have equal ids."""

from __future__ import annotations

import json

import pytest

from wand.model.tokenizers import TextTokenizer


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    letters = {letter: i for i, letter in enumerate(["<unk>", *"abcdef \u00e9"])}
    model = {"type": "WordLevel", "vocab": letters, "unk_token": "<unk>"}
    split = {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": False}
    return TextTokenizer(json.dumps({"version": "1.0", "model": model, "pre_tokenizer": split, "added_tokens": []}))


@pytest.mark.parametrize(
    ("text", "same"),
    [("e\u0301", "\u00e9"), ("a\u200bb", "ab"), ("\ufeffab", "ab"), ("a\x00b", "a b"), ("a\u00adb", "ab")],
)
def test_texts_that_look_the_same_have_the_same_ids(tokenizer: TextTokenizer, text: str, same: str) -> None:
    assert tokenizer(text) == tokenizer(same)
    assert 0 not in tokenizer(text)
