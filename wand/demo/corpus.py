"""A corpus that is synthesised on demand: generated sentences, spoken by espeak-ng voices."""

import hashlib
import random
from collections.abc import Iterator
from functools import cached_property

import torch

from wand.checks import check_number, check_whole_number
from wand.data.sources.source import SPLITS, Utterance
from wand.demo.sentences import sentence
from wand.text.espeak import SAMPLE_RATE, Voice, espeak_version, phone_times, synthesize

VOICES = (
    Voice("anna", "en-us", "f2", pitch=55, rate=165),
    Voice("brian", "en", "m3", pitch=40, rate=155),
    Voice("clara", "en-gb-x-rp", "f4", pitch=65, rate=175),
    Voice("duncan", "en-gb-scotland", "m1", pitch=50, rate=160),
    Voice("ellie", "en-us", "f5", pitch=75, pitch_range=65, rate=180),
    Voice("frank", "en-us", "m7", pitch=25, pitch_range=40, rate=150),
    Voice("grace", "en-029", "f3", pitch=45, rate=165),
    Voice("hugh", "en-gb-x-gbclan", "m5", pitch=60, pitch_range=60, rate=170),
)
UNSEEN_VOICE = Voice("unseen-iris", "en-us-nyc", "f1", pitch=50, rate=160)

_VOICES_BY_NAME = {voice.name: voice for voice in (*VOICES, UNSEEN_VOICE)}
# Letters per second at 165 words per minute; only the size of the corpus depends on it.
_LETTERS_PER_SECOND = 18.6


def split_of(text: str) -> str:
    """The split of a sentence (90 % train, 5 % validation, 5 % test). It is the same for every seed."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    return "train" if bucket < 90 else "validation" if bucket < 95 else "test"


class EspeakCorpus:
    """Sentences of a small grammar, spoken by espeak-ng voices. The test split has one additional, unseen voice.

    Args:
        hours: Approximate hours of speech in the training split.
        seed: Seed for the choice of sentences. A sentence is in the same split for every seed.
        validation_sentences: Number of sentences in the validation split.
        test_sentences: Number of test sentences in the seen voices. The unseen voice speaks a quarter as many in
            addition (at least one).
    """

    sample_rate: int = SAMPLE_RATE

    def __init__(
        self, hours: float = 1.0, seed: int = 0, validation_sentences: int = 64, test_sentences: int = 64
    ) -> None:
        check_number("hours", hours)
        check_whole_number("seed", seed)
        check_whole_number("validation_sentences", validation_sentences)
        check_whole_number("test_sentences", test_sentences)
        if not 0 < hours <= 1000:
            raise ValueError(f"hours must lie in (0, 1000], got {hours}")
        if validation_sentences < 1:
            raise ValueError(f"validation_sentences must be at least 1, got {validation_sentences}")
        if test_sentences < 1:
            raise ValueError(f"test_sentences must be at least 1, got {test_sentences}")
        self.hours = hours
        self.seed = seed
        self.validation_sentences = validation_sentences
        self.test_sentences = test_sentences

    @cached_property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of everything that determines the audio: texts, voices, library, sample rate."""
        digest = hashlib.sha256(f"{espeak_version()} {self.sample_rate} {VOICES} {UNSEEN_VOICE}".encode())
        for split in SPLITS:
            for utterance in self.utterances(split):
                digest.update(f"{utterance.id}\t{utterance.text}\n".encode())
        return digest.hexdigest()[:16]

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of one split, always the same and in the same order.

        Args:
            split: `train`, `validation` or `test`.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        sentences = self._sentences(split)
        if split == "train":
            return self._training(sentences)
        count = self.validation_sentences if split == "validation" else self.test_sentences
        spoken = [(VOICES[index % len(VOICES)], next(sentences)) for index in range(count)]
        if split == "test":
            spoken += [(UNSEEN_VOICE, next(sentences)) for _ in range(max(1, count // 4))]
        return [self._utterance(split, index, voice, text) for index, (voice, text) in enumerate(spoken)]

    def audio(self, utterance: Utterance) -> torch.Tensor:
        """The speech of one utterance: float32 `[N]` at 16 kHz.

        Args:
            utterance: One of `utterances(...)`; its speaker must be a voice of this corpus.
        """
        return synthesize(utterance.text, self._voice(utterance))

    def phone_times(self, utterance: Utterance) -> list[tuple[str, float]]:
        """The phones of one utterance in IPA, as its voice pronounces them, and their start times in seconds.

        Args:
            utterance: One of `utterances(...)`; its speaker must be a voice of this corpus.
        """
        return phone_times(utterance.text, self._voice(utterance))

    def _voice(self, utterance: Utterance) -> Voice:
        if utterance.speaker not in _VOICES_BY_NAME:
            raise ValueError(
                f"utterance {utterance.id!r} has speaker {utterance.speaker!r}; "
                f"this corpus knows {', '.join(_VOICES_BY_NAME)}"
            )
        return _VOICES_BY_NAME[utterance.speaker]

    def _training(self, sentences: Iterator[str]) -> list[Utterance]:
        utterances: list[Utterance] = []
        seconds = 0.0
        while seconds < self.hours * 3600:
            voice = VOICES[len(utterances) % len(VOICES)]
            text = next(sentences)
            seconds += len(text) / _LETTERS_PER_SECOND * 165 / voice.rate
            utterances.append(self._utterance("train", len(utterances), voice, text))
        return utterances

    def _sentences(self, split: str) -> Iterator[str]:
        """Generate distinct sentences of one split without end."""
        rng = random.Random(f"{self.seed} {split}")
        seen: set[str] = set()
        while True:
            text = sentence(rng)
            if text not in seen and split_of(text) == split:
                seen.add(text)
                yield text

    def _utterance(self, split: str, index: int, voice: Voice, text: str) -> Utterance:
        return Utterance(id=f"{split}-{self.seed}-{index:06d}", text=text, speaker=voice.name)
