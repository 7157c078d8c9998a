"""The texts: sentences that no training contains, until the recordings of a voice reach a length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from benchmarks.voice.sentences import FOLDER
from benchmarks.voice.stages import known_voices, reference_of, speak
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.progress import progress
from wand.text.espeak import SAMPLE_RATE


@dataclass(frozen=True, slots=True, eq=False)
class LongText:
    """A long text for one voice.

    Args:
        voice: Name of the voice.
        sentences: Its sentences.
        reference: Another sentence of the voice.
        summed: Length of the recordings of all sentences together, in seconds.
        joint: Length of the recording of the whole text, which its synthesiser reads at once, in seconds.
    """

    voice: str
    sentences: tuple[str, ...]
    reference: Reference
    summed: float
    joint: float

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(self.sentences)


@cache
def all_sentences() -> tuple[str, ...]:
    """The demo and the everyday sentences of `benchmarks.voice`, mixed, always in the same order."""
    texts = [text for file in ("demo.txt", "everyday.txt") for text in (FOLDER / file).read_text("utf-8").splitlines()]
    random.Random("sentences of long texts").shuffle(texts)
    return tuple(texts)


def sentences_of(voice: str) -> list[str]:
    """All sentences, in the order in which a voice says them. Each voice begins at another place.

    Raises:
        ValueError: If there is no such voice.
    """
    texts, voices = all_sentences(), list(known_voices())
    if voice not in voices:
        raise ValueError(f"there is no voice {voice!r}: choose from {', '.join(voices)}")
    begin = voices.index(voice) * len(texts) // len(voices)
    return [*texts[begin:], *texts[:begin]]


def long_texts(codec: Codec, seconds: Sequence[float], voices: Sequence[str]) -> dict[float, list[LongText]]:
    """One text for each length and voice. Shorter texts are the beginnings of longer ones.

    Args:
        codec: Encodes the references.
        seconds: The lengths.
        voices: Names of voices.

    Raises:
        ValueError: If there is no such voice, or a length is beyond all sentences.
    """
    made: dict[float, list[LongText]] = {length: [] for length in seconds}
    with progress("recordings", len(voices), "voices") as shown:
        for voice in voices:
            for length, text in _texts_of(voice, codec, sorted(seconds)).items():
                made[length].append(text)
            shown.advance()
    return made


def _texts_of(voice: str, codec: Codec, seconds: Sequence[float]) -> dict[float, LongText]:
    left, reference = iter(sentences_of(voice)), reference_of(voice, codec)
    sentences: list[str] = []
    made, summed = {}, 0.0
    for length in seconds:
        while summed < length:
            sentence = next(left, None)
            if sentence is None:
                raise ValueError(f"all sentences of voice {voice} take {summed:.0f} s: {length:g} s are too long")
            sentences.append(sentence)
            summed += _seconds(sentence, voice)
        made[length] = LongText(voice, tuple(sentences), reference, summed, _seconds(" ".join(sentences), voice))
    return made


def _seconds(text: str, voice: str) -> float:
    return len(speak(text, voice)) / SAMPLE_RATE
