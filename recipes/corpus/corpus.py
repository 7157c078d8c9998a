"""A corpus with an open vocabulary: sentences from texts and frames, spoken by several voices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from recipes.corpus.forbidden import Forbidden, read_sentences, spelled, spoken_words
from recipes.corpus.sources import SEEN, SHARES, UNSEEN, always_trained, seen_stream, stream, unseen_stream
from recipes.corpus.voices import UNSEEN_VOICE, VOICES, CorpusVoice, Spoken
from wand.checks import check_number, check_whole_number
from wand.data.sources.source import SPLITS, Utterance
from wand.text.espeak import SAMPLE_RATE, espeak_version

_LISTS = Path("benchmarks/sentences")
# Letters per second of the voices; only the size of the corpus and the balance of lengths depend on it.
_LETTERS_PER_SECOND = 16.7
# Seconds that divide short, middle and long sentences.
_LENGTHS = (3.0, 6.0)


def kind_of(utterance: Utterance) -> str:
    """The kind of sentence that an utterance of this corpus says, which its id contains."""
    return utterance.id.split("-")[1]


def seconds_of(text: str) -> float:
    """About how long a text takes to say."""
    return 0.3 + len(spelled(text)) / _LETTERS_PER_SECOND


class OpenCorpus:
    """Sentences of an open vocabulary. Voices are balanced over every kind of sentence and every length.

    More hours go on where fewer end: the first training utterances are the same. Half of the test sentences consist of
    trained words, the other half have words that are never trained.

    Args:
        hours: Approximate hours of speech in the training split.
        seed: Seed of the sentences. A sentence is in the same split for every seed.
        validation_sentences: Number of sentences in the validation split.
        test_sentences: Number of test sentences in the seen voices. The unseen voice speaks a quarter as many in
            addition.
        shares: Kinds of sentences, and their shares of the hours.
        voices: The voices.
        unseen_voice: The voice that is heard in the test only.
        everyday: File of the test sentences of which no four words in a row are trained.
        demo: File of the test sentences that are not trained as a whole.
    """

    sample_rate: int = SAMPLE_RATE

    def __init__(
        self,
        hours: float = 1.0,
        seed: int = 0,
        validation_sentences: int = 64,
        test_sentences: int = 64,
        *,
        shares: Mapping[str, float] = SHARES,
        voices: Sequence[CorpusVoice] = tuple(VOICES.values()),
        unseen_voice: CorpusVoice = UNSEEN_VOICE,
        everyday: Path = _LISTS / "everyday.txt",
        demo: Path = _LISTS / "demo.txt",
    ) -> None:
        check_number("hours", hours)
        for name, value in (("validation_sentences", validation_sentences), ("test_sentences", test_sentences)):
            check_whole_number(name, value)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_whole_number("seed", seed)
        if not 0 < hours <= 1000:
            raise ValueError(f"hours must lie in (0, 1000], got {hours}")
        if unknown := shares.keys() - SHARES.keys():
            raise ValueError(f"no kind of sentence is called {min(unknown)!r}: choose from {', '.join(SHARES)}")
        self.hours = hours
        self.seed = seed
        self.validation_sentences = validation_sentences
        self.test_sentences = test_sentences
        self.shares = dict(shares)
        self.voices = {voice.name: voice for voice in voices}
        self.unseen_voice = unseen_voice
        self.forbidden = Forbidden(read_sentences(demo), read_sentences(everyday))
        self._made: dict[str, list[Utterance]] = {}

    @property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of everything that determines the speech: texts, voices, library, sample rate."""
        voices = [*self.voices.values(), self.unseen_voice]
        digest = hashlib.sha256(f"{espeak_version()} {self.sample_rate} {voices}".encode())
        for split in SPLITS:
            for utterance in self.utterances(split):
                digest.update(f"{utterance.id}\t{utterance.text}\t{utterance.speaker}\n".encode())
        return digest.hexdigest()[:16]

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of one split, always the same and in the same order.

        Args:
            split: `train`, `validation` or `test`.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if split not in self._made:
            made = {"train": self._train, "validation": self._validation, "test": self._test}[split]
            self._made[split] = [
                Utterance(f"{split}-{kind}-{self.seed}-{i:06d}", text, speaker)
                for i, (kind, text, speaker) in enumerate(made())
            ]
        return self._made[split]

    def spoken(self, utterance: Utterance) -> Spoken:
        """The speech of one utterance and its phones with times.

        Args:
            utterance: One of `utterances(...)`; its speaker must be a voice of this corpus.
        """
        voices = {**self.voices, self.unseen_voice.name: self.unseen_voice}
        if utterance.speaker not in voices:
            raise ValueError(
                f"utterance {utterance.id!r} has speaker {utterance.speaker!r}; this corpus knows {', '.join(voices)}"
            )
        return voices[utterance.speaker].speak(utterance.text)

    def audio(self, utterance: Utterance) -> Tensor:
        """The speech of one utterance: float32 ``[N]`` at 16 kHz."""
        return self.spoken(utterance).audio

    def phone_times(self, utterance: Utterance) -> list[tuple[str, float]]:
        """The phones of one utterance in espeak-ng's notation, and their start times in seconds."""
        return self.spoken(utterance).phones

    def _train(self) -> Iterator[tuple[str, str, str]]:
        turns = Turns(list(self.voices))
        missing = self.hours * 3600
        for kind, text in self._mixed("train"):
            yield kind, text, turns.next(kind, text)
            missing -= seconds_of(text)
            if missing <= 0:
                return

    def _validation(self) -> Iterator[tuple[str, str, str]]:
        turns = Turns(list(self.voices))
        for _, (kind, text) in zip(range(self.validation_sentences), self._mixed("validation"), strict=False):
            yield kind, text, turns.next(kind, text)

    def _test(self) -> Iterator[tuple[str, str, str]]:
        turns = Turns(list(self.voices))
        trained = {word for utterance in self.utterances("train") for word in spoken_words(utterance.text)}
        sentences = {
            SEEN: seen_stream(self.seed, self.forbidden, trained | always_trained()),
            UNSEEN: unseen_stream(self.seed, self.forbidden),
        }
        for i in range(self.test_sentences + max(1, self.test_sentences // 4)):
            kind = (SEEN, UNSEEN)[i % 2]
            text = next(sentences[kind])
            seen_voice = i < self.test_sentences
            yield kind, text, turns.next(kind, text) if seen_voice else self.unseen_voice.name

    def _mixed(self, split: str) -> Iterator[tuple[str, str]]:
        """Sentences of all kinds in turn, so that each has its share of the time from the beginning."""
        streams = {kind: stream(kind, split, self.seed, self.forbidden) for kind in self.shares}
        spoken = dict.fromkeys(streams, 0.0)
        while streams:
            kind = min(streams, key=lambda kind: spoken[kind] / self.shares[kind])
            text = next(streams[kind], None)
            if text is None:  # all sentences of a natural text are taken
                del streams[kind]
                continue
            spoken[kind] += seconds_of(text)
            yield kind, text


class Turns:
    """Gives the voices in turn, separately for every kind of sentence and length."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._next: dict[tuple[str, int], int] = {}

    def next(self, kind: str, text: str) -> str:
        """The name of the voice that says a text."""
        group = kind, sum(seconds_of(text) > bound for bound in _LENGTHS)
        turn = self._next.setdefault(group, len(self._next))
        self._next[group] = turn + 1
        return self._names[turn % len(self._names)]
