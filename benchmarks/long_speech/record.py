"""The speeches on disk: what is there is neither spoken nor heard again.

Each speech has its codes (safetensors) and a JSON file with everything that is known about it, which is written last.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from wand.files.weights import write_safetensors
from wand.files.writing import write_text

PASSAGE, SPLITTING = "passage", "splitting"
SYSTEMS = (PASSAGE, SPLITTING)


@dataclass(frozen=True, slots=True)
class Key:
    """Names a speech.

    Args:
        seconds: Length of the text.
        voice: Name of the voice.
        seed: Number of the take.
        system: One of `SYSTEMS`.
    """

    seconds: float
    voice: str
    seed: int
    system: str

    def __str__(self) -> str:
        return f"{self.seconds:g}s/{self.voice}-{self.seed}-{self.system}"


@dataclass(slots=True)
class Facts:
    """What is known about a speech.

    Args:
        sentences: The sentences of its text.
        reasons: Why its parts ended: that of the passage, or those of all sentences.
        words: The words of a passage, each with its begin and end in seconds.
        faults: What went wrong in a passage: the trouble, and when, in seconds.
        computing: CPU seconds from the end of the speech before it in the same engine. Their sum is that of the engine.
        moving: CPU seconds of these that exchanged text windows.
        sound: What was measured in the sound.
        heard: What each ear has heard.
    """

    sentences: list[str]
    reasons: list[str]
    words: list[tuple[str, float, float]]
    faults: list[tuple[str, float]]
    computing: float
    moving: float
    sound: dict[str, Any] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)

    def begins(self) -> list[float]:
        """When the sentences of a passage begin, in seconds: those that were reached."""
        places = [0, *accumulate(_letters(sentence) for sentence in self.sentences[:-1])]
        # Words that share a token are one word, which may belong to two sentences.
        ends = list(accumulate(_letters(word) for word, _, _ in self.words))
        first = [bisect_right(ends, place) for place in places]
        return [self.words[i][1] for i in first if i < len(self.words)]


def _letters(text: str) -> int:
    """Number of letters and marks."""
    return len("".join(text.split()))


class Record:
    """The speeches of one model.

    Args:
        folder: Folder of the record.
        made_of: The model, as a text.

    Raises:
        ValueError: If the folder has speeches of another model.
    """

    def __init__(self, folder: Path, made_of: str) -> None:
        self.folder = folder
        file = folder / "made-of.txt"
        if file.is_file() and (there := file.read_text(encoding="utf-8")) != f"{made_of}\n":
            raise ValueError(
                f"{folder} has speeches of another model ({there.strip()}, not {made_of}): give another --out"
            )
        write_text(file, f"{made_of}\n")

    def has(self, key: Key, sentences: Sequence[str]) -> bool:
        """Whether a speech is stored.

        Raises:
            ValueError: If it has another text.
        """
        if not self._file(key).is_file():
            return False
        if self.facts(key).sentences != list(sentences):
            raise ValueError(f"{self._file(key)} is the speech of another text: give another --out")
        return True

    def facts(self, key: Key) -> Facts:
        """What is known about a speech."""
        return Facts(**json.loads(self._file(key).read_text(encoding="utf-8")))

    def write_facts(self, key: Key, facts: Facts) -> None:
        """Replace what is known about a speech."""
        write_text(self._file(key), json.dumps(asdict(facts), indent=1, ensure_ascii=False) + "\n")

    def add(self, key: Key, codes: Sequence[Tensor], facts: Facts) -> None:
        """Store a speech.

        Args:
            key: Its name.
            codes: Codes of its parts, each ``[K, F]``.
            facts: What is known about it.
        """
        file = self._file(key).with_suffix(".safetensors")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors({f"{i:04d}": part.cpu().contiguous() for i, part in enumerate(codes)}, file)
        self.write_facts(key, facts)

    def codes(self, key: Key) -> list[Tensor]:
        """The codes of the parts of a speech, each ``[K, F]``."""
        return [part for _, part in sorted(load_file(self._file(key).with_suffix(".safetensors")).items())]

    def _file(self, key: Key) -> Path:
        return self.folder / f"{key}.json"


def keys(seconds: float, voices: Sequence[str], seeds: int, system: str) -> Iterator[Key]:
    """The names of all speeches of a length and a system: voice by voice, then seed by seed."""
    return (Key(seconds, voice, seed, system) for voice in voices for seed in range(seeds))
