"""The lists of sentences that are spoken: ``python -m benchmarks.voice.sentences`` makes the list of demo sentences.

Both lists are fixed, because figures of different days are compared on them. ``everyday.txt`` was written by hand,
before any training. ``demo.txt`` has sentences of the demo grammar that are in its test split: 134 below 3 s, 133 of 3
to 6 s and 133 above 6 s, sorted by length class.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wand.demo.corpus import VOICES, split_of
from wand.demo.sentences import sentence
from wand.evaluation.quality import BUCKETS
from wand.evaluation.takes import spread
from wand.files.writing import write_text
from wand.text.espeak import SAMPLE_RATE, synthesize

FOLDER = Path(__file__).parents[1] / "sentences"
CLASSES = (f"< {BUCKETS[0]:g} s", f"{BUCKETS[0]:g}-{BUCKETS[1]:g} s", f"> {BUCKETS[1]:g} s")
# The length of a sentence is the mean over these two voices, whoever speaks it: its class is the same in all tables.
MEASURED = VOICES[:2]
DEMO_SIZES = (134, 133, 133)


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence of a list, and the voice that speaks it.

    Args:
        number: Its place in the list.
        text: The sentence.
        voice: Name of the voice.
    """

    number: int
    text: str
    voice: str

    @property
    def name(self) -> str:
        """Name of its takes."""
        return f"{self.number:03d}-{self.voice}"


def read_list(file: Path, voices: Sequence[str], limit: int | None = None) -> list[Line]:
    """The sentences of a list, with the voices in turn.

    Args:
        file: A text file with one sentence on each line.
        voices: Names of the voices.
        limit: Number of sentences, spread evenly over the list; None for all.
    """
    texts = list(enumerate(file.read_text(encoding="utf-8").splitlines()))
    return [Line(number, text, voices[i % len(voices)]) for i, (number, text) in enumerate(spread(texts, limit))]


def length_class(text: str) -> str:
    """The length class of a sentence, one of `CLASSES`."""
    seconds = sum(len(synthesize(text, voice)) for voice in MEASURED) / len(MEASURED) / SAMPLE_RATE
    return CLASSES[sum(seconds >= bound for bound in BUCKETS)]


def demo_sentences() -> list[str]:
    """The sentences of ``demo.txt``."""
    rng = random.Random("sentences that measure the voice")
    chosen: dict[str, list[str]] = {name: [] for name in CLASSES}
    missing = dict(zip(CLASSES, DEMO_SIZES, strict=True))
    while any(missing.values()):
        text = sentence(rng)
        if split_of(text) != "test" or any(text in own for own in chosen.values()):
            continue
        name = length_class(text)
        if missing[name]:
            missing[name] -= 1
            chosen[name].append(text)
    return [text for own in chosen.values() for text in own]


if __name__ == "__main__":
    write_text(FOLDER / "demo.txt", "".join(f"{text}\n" for text in demo_sentences()))
