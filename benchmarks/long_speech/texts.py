"""The texts: test sentences of a voice, until its recordings reach a length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.progress import progress
from wand.data.sources.source import Utterance
from wand.demo.corpus import VOICES, EspeakCorpus

# The recordings of many sentences last longer than this on average, in seconds.
SHORTEST_MEAN = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class LongText:
    """A long text for one voice.

    Args:
        voice: Name of the voice.
        sentences: Its sentences.
        reference: Another sentence of the voice.
        summed: Length of the recordings of all sentences together, in seconds.
        joint: Length of the recording of the whole text, read at once, in seconds.
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


def corpus_for(seconds: float) -> EspeakCorpus:
    """A corpus whose voices have enough different test sentences for a length."""
    return EspeakCorpus(hours=0.01, test_sentences=len(VOICES) * (2 + ceil(seconds / SHORTEST_MEAN)))


def long_texts(
    corpus: EspeakCorpus, codec: Codec, seconds: Sequence[float], voices: Sequence[str]
) -> dict[float, list[LongText]]:
    """One text for each length and voice. Shorter texts are the beginnings of longer ones.

    Args:
        corpus: The corpus. The first test sentence of a voice is its reference.
        codec: Encodes the references.
        seconds: The lengths.
        voices: Names of voices.

    Raises:
        ValueError: If the corpus has no such voice, or too few sentences of it.
    """
    own: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in corpus.utterances("test"):
        own[utterance.speaker].append(utterance)
    made: dict[float, list[LongText]] = {length: [] for length in seconds}
    with progress("recordings", len(voices), "voices") as shown:
        for voice in voices:
            if voice not in own:
                raise ValueError(f"the corpus has no voice {voice!r}: choose from {', '.join(own)}")
            for length, text in _texts_of(corpus, codec, sorted(seconds), own[voice]).items():
                made[length].append(text)
            shown.advance()
    return made


def _texts_of(
    corpus: EspeakCorpus, codec: Codec, seconds: Sequence[float], utterances: Sequence[Utterance]
) -> dict[float, LongText]:
    first, *rest = utterances
    reference = Reference(codec.encode(corpus.audio(first)[None, None], codec.sample_rate)[0])
    sentences: list[str] = []
    made, summed, left = {}, 0.0, iter(rest)
    for length in seconds:
        while summed < length:
            utterance = next(left, None)
            if utterance is None:
                raise ValueError(
                    f"voice {first.speaker} has only {summed:.0f} s of test sentences, and {length:g} s are needed: "
                    f"make the corpus larger"
                )
            sentences.append(utterance.text)
            summed += len(corpus.audio(utterance)) / corpus.sample_rate
        joint = len(corpus.audio(replace(first, text=" ".join(sentences)))) / corpus.sample_rate
        made[length] = LongText(first.speaker, tuple(sentences), reference, summed, joint)
    return made
