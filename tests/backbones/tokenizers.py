"""Tiny tokenizers in the files of released models: one id a character, and the tokens that a test names."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE


def write_tokenizer(folder: Path, vocabulary: dict[str, int]) -> None:
    """``tokenizer.json`` and its config: longer names than a character are added tokens."""
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    # As upstream: codec tokens are added, but not special.
    tokenizer.add_tokens([AddedToken(name, special=False) for name in vocabulary if len(name) > 1])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
