"""Speech that was made once and is read from files, with the times of its phones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wand.data.sources.source import SPLITS, Utterance
from wand.text.espeak import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Line:
    """Where one utterance lies in a folder of speech.

    Args:
        utterance: The utterance.
        kind: Its kind of sentence.
        part: The file of samples, ``[N]`` int16.
        start: First sample.
        length: Number of samples.
        phones: Phones in espeak-ng's notation, with their start times in seconds.
    """

    utterance: Utterance
    kind: str
    part: Path
    start: int
    length: int
    phones: list[tuple[str, float]]


class Recorded:
    """A corpus that `recipes.corpus.speak` has spoken. Its sound is read through memory maps.

    A folder has parts. Each is ``NAME.npy``, int16 samples at 16 kHz of utterances one after another, and
    ``NAME.jsonl``, one utterance in a line with `id`, `text`, `speaker`, `kind`, `start` and `length` in samples, and
    `phones` with their start times in seconds. A name begins with the split.

    Args:
        folder: The folder.
    """

    sample_rate: int = SAMPLE_RATE

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @cached_property
    def lines(self) -> Mapping[str, Mapping[str, Line]]:
        """The utterances of every split, by their ids.

        Raises:
            ValueError: If the folder has none.
        """
        found: dict[str, dict[str, Line]] = {split: {} for split in SPLITS}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                if "refused" not in line:
                    found[path.stem.split("-")[0]][line["id"]] = _line(line, path.with_suffix(".npy"))
        if not any(found.values()):
            raise ValueError(f"no speech in {self.folder}: make it with python -m recipes.corpus.speak")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the index, which contains a digest of every sound."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.jsonl")):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of one split."""
        return [line.utterance for line in self.lines[split].values()]

    def audio(self, utterance: Utterance) -> Tensor:
        """The speech of one utterance: float32 ``[N]`` at 16 kHz."""
        line = self.line(utterance.id)
        samples = _samples(line.part)[line.start : line.start + line.length]
        return torch.from_numpy(samples.astype(np.float32) / 32768)

    def seconds(self, utterance: Utterance) -> float:
        """The length of one utterance in seconds."""
        return self.line(utterance.id).length / self.sample_rate

    def phone_times(self, utterance: Utterance) -> list[tuple[str, float]]:
        """The phones of one utterance in espeak-ng's notation, and their start times in seconds."""
        return self.line(utterance.id).phones

    def line(self, name: str) -> Line:
        """Where an utterance lies, and its phones.

        Args:
            name: The id of the utterance.
        """
        return self.lines[name.split("-")[0]][name]


def _line(line: dict[str, Any], part: Path) -> Line:
    utterance = Utterance(line["id"], line["text"], line["speaker"])
    phones = [(str(phone), float(begin)) for phone, begin in line["phones"]]
    return Line(utterance, line["kind"], part, line["start"], line["length"], phones)


@lru_cache(maxsize=256)
def _samples(part: Path) -> np.ndarray:
    return np.load(part, mmap_mode="r")
