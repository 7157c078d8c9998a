"""Text tokenizers, built from small files. Checkpoints contain these files, so a run works without the original."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer

from wand.files.writing import write_bytes
from wand.text.characters import RULES, compose

Files = dict[str, bytes]
"""Small files of an original model, by relative name."""


def read_files(folder: Path, names: Sequence[str]) -> Files:
    """Read those of the named files that exist."""
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files under their relative names.

    Raises:
        ValueError: If a name leads out of the folder. Files may come from an untrusted checkpoint.
    """
    for name, content in files.items():
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"the file name {name!r} of the model leads out of its folder: not written")
        write_bytes(folder / name, content)


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
                made = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                made.add_special_tokens({"additional_special_tokens": list(extra_tokens)})
                return cls(made.backend_tokenizer.to_str())
            except Exception as error:  # tokenizers raises plain exceptions
                found, reason = ", ".join(sorted(files)) or "nothing", str(error).partition("\n")[0].rstrip(" :")
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
        ids: list[int] = self._tokenizer.encode(compose(text), add_special_tokens=False).ids
        return ids

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

    def __contains__(self, token: str) -> bool:
        return self._tokenizer.token_to_id(token) is not None

    def __getstate__(self) -> dict[str, str]:
        return {"definition": self.definition}
