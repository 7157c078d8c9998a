"""Text tokenizers, built from small files. Checkpoints contain these files, so a run works without the original."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Encoding, Tokenizer

from wand.checks import first_line
from wand.files.pretrained import OFFLINE
from wand.files.writing import write_bytes
from wand.text.characters import RULES, compose

# Code points that are no characters. They mark the stand-in of a token in a prompt.
_OPENS, _CLOSES = "\ufdd0", "\ufdd1"
# How vocabularies write a blank.
_BLANKS = (" ", "\u0120", "\u2581")

Files = dict[str, bytes]
"""Small files of an original model, by relative name."""


def read_files(folder: Path, names: Sequence[str]) -> Files:
    """Read those of the named files that exist.

    Raises:
        ValueError: If a name leads out of the folder. Names may come from an export of somebody else.
    """
    for name in names:
        _check_inside(folder, name)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files under their relative names.

    Raises:
        ValueError: If a name leads out of the folder. Files may come from an untrusted checkpoint.
    """
    for name, content in files.items():
        _check_inside(folder, name)
        write_bytes(folder / name, content)


def _check_inside(folder: Path, name: str) -> None:
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise ValueError(f"the file name {name!r} of the model leads out of its folder {folder}")


class TextTokenizer:
    """A picklable Hugging Face fast tokenizer with a digest.

    Args:
        definition: Content of ``tokenizer.json``.
    """

    def __init__(self, definition: str) -> None:
        self.definition = definition

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], extra_tokens: Sequence[str] = ()) -> TextTokenizer:
        """Build the tokenizer from the files of a model.

        Args:
            files: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``, with their configs.
            extra_tokens: Special tokens to append if they are missing.

        Raises:
            ValueError: If transformers cannot build a fast tokenizer from the files.
        """
        from transformers import AutoTokenizer

        with TemporaryDirectory() as folder:
            write_files(files, Path(folder))
            try:
                made = AutoTokenizer.from_pretrained(folder, **OFFLINE)
                made.add_special_tokens({"additional_special_tokens": list(extra_tokens)})
                return cls(made.backend_tokenizer.to_str())
            except Exception as error:  # tokenizers raises plain exceptions
                found, reason = ", ".join(sorted(files)) or "nothing", first_line(error).rstrip(" :")
                raise ValueError(f"no tokenizer can be built from {found}: {reason}") from error

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self.definition)

    @cached_property
    def digest(self) -> str:
        """Short digest of the definition and of the rules for characters."""
        return hashlib.sha256(f"{RULES} {self.definition}".encode()).hexdigest()[:12]

    def __call__(self, text: str) -> list[int]:
        """Ids of a text. Special tokens in the text are recognised; no others are added."""
        ids: list[int] = self.encoding(text).ids
        return ids

    def encoding(self, text: str) -> Encoding:
        """Ids, tokens and places of a text."""
        return self._tokenizer.encode(compose(text), add_special_tokens=False)

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def token_id(self, token: str) -> int:
        """The id of a token.

        Raises:
            ValueError: If the vocabulary does not have it.
        """
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no token {token!r}: is this the tokenizer of the right model?")
        return int(found)

    def begins_with_blank(self, id: int) -> bool:
        """Whether the text of a token begins with a blank, written as byte-level BPE or SentencePiece write it."""
        token = self._tokenizer.id_to_token(id)
        return token is not None and token[:1] in _BLANKS

    def __contains__(self, token: str) -> bool:
        return self._tokenizer.token_to_id(token) is not None

    def __getstate__(self) -> dict[str, str]:
        return {"definition": self.definition}


class PromptTokenizer:
    """Reads texts that users write into the prompt of a model. Only the marks of the prompt and some tags are tokens.

    Names of other tokens in a text, such as ``<|end_text|>``, are read as plain text. A token of the prompt is written
    as a stand-in that texts cannot contain, so a whole prompt is read at once and its words are split as always.

    Args:
        tokenizer: Tokenizer of the model.
        tags: Names of tokens that act in a text, such as ``[laughter]``; None opens all tokens.

    Raises:
        ValueError: If the tokenizer has no such tag.
    """

    def __init__(self, tokenizer: TextTokenizer, tags: Sequence[str] | None = ()) -> None:
        self.tokenizer = tokenizer
        self.tags = tags
        for tag in tags or ():
            tokenizer.token_id(tag)

    @cached_property
    def _stand_ins(self) -> dict[str, str]:
        """The stand-in of each added token that is no tag. Runs of spaces, which some models add, are text."""
        added = (token["content"] for token in json.loads(self.tokenizer.definition)["added_tokens"])
        closed = [name for name in added if name not in (self.tags or ()) and not name.isspace()]
        return {name: f"{_OPENS}{i}{_CLOSES}" for i, name in enumerate(closed)}

    @cached_property
    def _reader(self) -> Tokenizer:
        """The tokenizer with stand-ins in place of the names of its added tokens."""
        definition = json.loads(self.tokenizer.definition)
        for token in definition["added_tokens"]:
            token["content"] = self._stand_ins.get(token["content"], token["content"])
        return Tokenizer.from_str(json.dumps({**definition, "post_processor": None}))

    @cached_property
    def _ids(self) -> dict[str, int]:
        """The ids of stand-ins and tags: the reader counts its added tokens anew."""
        added = [token["content"] for token in json.loads(self.tokenizer.definition)["added_tokens"]]
        return {self._stand_ins.get(name, name): self.tokenizer.token_id(name) for name in added}

    def marks(self, markup: str) -> str:
        """A part of a prompt that is no text of a user: its tokens act in `__call__`."""
        if self.tags is None:
            return markup
        made, end, markup = [], 0, compose(markup)
        encoding = self.tokenizer.encoding(markup)
        for token, (begin, after) in zip(encoding.tokens, encoding.offsets, strict=True):
            name = token.strip()  # a token may take the spaces around it
            if name in self._stand_ins:
                made += [markup[end:begin], self._stand_ins[name]]
                end = after
        return "".join([*made, markup[end:]])

    def text(self, text: str) -> str:
        """A text of a user, as a part of a prompt.

        Raises:
            ValueError: If it contains a code point that is no character and that stands for tokens.
        """
        if _OPENS in text or _CLOSES in text:
            raise ValueError(f"the text {text[:40]!r} contains U+FDD0 or U+FDD1, which are no characters: remove them")
        return compose(text)

    def __call__(self, prompt: str) -> list[int]:
        """Ids of a prompt, joined from `marks` and texts.

        Raises:
            ValueError: If a text contains the name of a token that this tokenizer cannot read as plain text.
        """
        return self.read(prompt)[0]

    def read(self, prompt: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a prompt as `__call__` gives them, and the begin and end of each in the prompt, in letters."""
        if self.tags is None:
            opened = self.tokenizer.encoding(prompt)
            return opened.ids, opened.offsets
        encoding = self._reader.encode(prompt, add_special_tokens=False)
        if names := self._stand_ins.keys() & set(encoding.tokens):
            raise ValueError(f"the text contains {min(names)!r}, a token of the model: remove it from the text")
        known = self._ids
        ids = [known.get(t, known.get(t.strip(), id)) for t, id in zip(encoding.tokens, encoding.ids, strict=True)]
        return ids, encoding.offsets
