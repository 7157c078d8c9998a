"""A corpus listed in a JSONL file: texts with sound files or with ready-made codes."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from wand.checks import check_shares, first_line
from wand.data.sources.corpora import FileCorpus, Recording
from wand.data.sources.json_lines import KEYS, read_object
from wand.data.sources.source import SpeechCodes, Utterance, split_by_name
from wand.files.text import read_lines


class ManifestCorpus(FileCorpus):
    """A corpus in a JSONL file with one utterance per line.

    Every line needs ``text``, and either ``audio`` (a path relative to the manifest) or, if the speech is already
    encoded with the model's codec, ``codes`` (rows of numbers, or the path of an ``.npy`` file). Optional keys are
    ``id``, ``speaker``, ``reference`` (the id of another line), ``split``, and ``global_codes`` (codes of the voice).
    A key whose value is null counts as left out. Keys with other names are not used; one warning names them.

    Args:
        path: Path of the manifest.
        validation_share: Share of the lines without ``split`` to validate on.
        test_share: Share of the lines without ``split`` to test on.
    """

    def __init__(self, path: str, validation_share: float = 0.01, test_share: float = 0.01) -> None:
        self.path = Path(path)
        check_shares(validation_share, test_share)
        self.shares = (validation_share, test_share)

    @cached_property
    def lines(self) -> dict[str, dict[str, Any]]:
        """The lines by the id of their utterance, with the keys that are known and not null.

        Raises:
            ValueError: If a line cannot be used; the message names the line.
        """
        if not self.path.is_file():
            raise ValueError(f"no manifest at {self.path}")
        found: dict[str, dict[str, Any]] = {}
        places: dict[str, int] = {}
        unused: dict[str, int] = {}
        for number, text in read_lines(self.path):
            line = read_object(text, f"{self.path}, line {number}")
            for key in line.keys() - {*KEYS}:
                unused.setdefault(key, number)
            name = str(line.get("id", f"line-{number}"))
            if name in found:
                raise ValueError(
                    f"{self.path}, line {number}: another line already has the id {name!r} (line {places[name]})"
                )
            found[name], places[name] = {key: line[key] for key in KEYS if key in line}, number
        if not found:
            raise ValueError(f"{self.path} holds no utterance: write one JSON object per line")
        for name, line in found.items():
            if (reference := line.get("reference")) is not None and str(reference) not in found:
                raise ValueError(
                    f"{self.path}, line {places[name]}: the reference {reference!r} of {name!r} is not the id of "
                    f"any line"
                )
        if unused:
            rank_zero_warn(
                f"{self.path}: wand does not use the keys {', '.join(sorted(unused))} "
                f"(first in line {min(unused.values())}); it knows {', '.join(KEYS)}"
            )
        return found

    @cached_property
    def coded(self) -> bool:
        """Whether all lines have codes, so that no codec is needed."""
        return all("codes" in line for line in self.lines.values())

    def list_recordings(self) -> list[Recording]:
        """All recordings in the order of the lines."""
        return [
            Recording(
                Utterance(
                    name,
                    line["text"],
                    str(line.get("speaker", "unknown")),
                    None if line.get("reference") is None else str(line["reference"]),
                ),
                line.get("split") or split_by_name(name, *self.shares),
                None if line.get("audio") is None else self.path.parent / line["audio"],
                str(self.path),
            )
            for name, line in self.lines.items()
        ]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the lines, and the names and contents of all files."""
        parts = (super().fingerprint, json.dumps(list(self.lines.values())))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def files(self) -> list[Path]:
        """All sound files, and all files of codes."""
        named = (line.get(key) for line in self.lines.values() for key in ("codes", "global_codes"))
        return [*super().files(), *(self.path.parent / name for name in named if isinstance(name, str))]

    def codes(self, utterance: Utterance) -> SpeechCodes:
        """The codes of one utterance, ``[K, F]``. A flat list has the codes of a single codebook."""
        line = self.lines[utterance.id]
        spoken = self._numbers(line["codes"], utterance.id)
        voice = line.get("global_codes")
        return SpeechCodes(
            spoken[None] if spoken.ndim == 1 else spoken,
            None if voice is None else self._numbers(voice, utterance.id).flatten(),
        )

    def _numbers(self, given: Any, name: str) -> Tensor:
        try:
            values = _load(self.path.parent / given) if isinstance(given, str) else given
            numbers = np.asarray(values)
            return torch.as_tensor(numbers.astype(np.int64) if numbers.dtype.kind in "iu" else numbers)
        except (MemoryError, OverflowError, ValueError, TypeError) as error:
            raise ValueError(f"the codes of {name!r} cannot be read: {error}") from error


def _load(path: Path) -> Any:
    """The array in a file."""
    if not path.is_file():  # reading a pipe would wait for ever
        raise ValueError(f"there is no file {path}")
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # numpy reads a damaged file as Python, zip or pickle, and each fails in its own way
        raise ValueError(f"{path} holds no array of numpy: {first_line(error)}") from error
