"""A corpus listed in a JSONL file: texts with sound files or with ready-made codes."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wand.data.sources.corpora import FileCorpus, Recording
from wand.data.sources.source import SPLITS, SpeechCodes, Utterance, split_by_name

KEYS = ("id", "text", "audio", "speaker", "reference", "split", "codes", "global_codes")


class ManifestCorpus(FileCorpus):
    """A corpus in a JSONL file with one utterance per line.

    Every line needs ``text``, and either ``audio`` (a path relative to the manifest) or, if the speech is already
    encoded with the model's codec, ``codes`` (rows of numbers, or the path of an ``.npy`` file). Optional keys are
    ``id``, ``speaker``, ``reference`` (the id of another line), ``split``, and ``global_codes`` (codes of the voice).

    Args:
        path: Path of the manifest.
        validation_share: Share of the lines without ``split`` to validate on.
        test_share: Share of the lines without ``split`` to test on.
    """

    def __init__(self, path: str, validation_share: float = 0.01, test_share: float = 0.01) -> None:
        self.path = Path(path)
        self.shares = (validation_share, test_share)

    @cached_property
    def lines(self) -> dict[str, dict[str, Any]]:
        """The lines by the id of their utterance.

        Raises:
            ValueError: If a line cannot be used; the message names the line.
        """
        if not self.path.is_file():
            raise ValueError(f"no manifest at {self.path}")
        found: dict[str, dict[str, Any]] = {}
        for number, text in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            if not text.strip():
                continue
            line = self._read(text, number)
            name = str(line.get("id", f"line-{number}"))
            if name in found:
                raise ValueError(f"{self.path}, line {number}: another line already has the id {name!r}")
            found[name] = line
        for name, line in found.items():
            if (reference := line.get("reference")) is not None and str(reference) not in found:
                raise ValueError(f"{self.path}: the reference {reference!r} of {name!r} is not the id of any line")
        return found

    def _read(self, text: str, number: int) -> dict[str, Any]:
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path}, line {number} is not valid JSON: {error}") from error
        if not isinstance(line, dict) or not isinstance(line.get("text"), str):
            raise ValueError(f"{self.path}, line {number} has no text")
        if unknown := set(line) - {*KEYS}:
            names = ", ".join(sorted(unknown))
            raise ValueError(f"{self.path}, line {number} has unknown keys {names}: known are {', '.join(KEYS)}")
        if "audio" not in line and "codes" not in line:
            raise ValueError(f"{self.path}, line {number} has neither audio nor codes")
        if line.get("split", "train") not in SPLITS:
            raise ValueError(f"{self.path}, line {number}: split {line['split']!r} is not one of {', '.join(SPLITS)}")
        return line

    @property
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
            )
            for name, line in self.lines.items()
        ]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the lines, file names and file sizes."""
        codes = [line.get("codes") for line in self.lines.values()]
        files = [self.path.parent / c for c in codes if isinstance(c, str)] if self.coded else []
        sizes = [file.stat().st_size if file.is_file() else None for file in files]
        parts = (super().fingerprint, json.dumps(list(self.lines.values())), sizes)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

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
            values = np.load(self.path.parent / given, allow_pickle=False) if isinstance(given, str) else given
            numbers = np.asarray(values)
            return torch.as_tensor(numbers.astype(np.int64) if numbers.dtype.kind in "iu" else numbers)
        except (OSError, EOFError, MemoryError, ValueError, TypeError) as error:
            raise ValueError(f"the codes of {name!r} cannot be read: {error}") from error
