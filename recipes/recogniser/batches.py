"""The batches of a training. They depend only on seed and step, so a resumed run gets the same ones."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from recipes.recogniser.augmentation import Augmentation, augmented
from recipes.recogniser.labels import Labels
from recipes.recogniser.speech import ORIGINAL, Speech
from wand.recognition.network import SAMPLE_RATE, pad

# Utterances of similar lengths form a batch. The lengths are varied, so that every epoch has other batches.
JITTER = 0.15


class Batch(NamedTuple):
    """Augmented sounds ``[B, N]``, right-padded, their lengths ``[B]``, and their labels."""

    audio: Tensor
    lengths: Tensor
    labels: list[Labels]


class Batches:
    """Batches of about equal duration.

    Args:
        speech: The training speech. Its round trips are drawn as often as one another.
        seconds: Largest duration of a batch, with padding; an utterance that is longer forms its own.
        coded_share: Share of sounds that have made a round trip.
        augmentation: How sounds are changed.
        seed: Seed of the order and the augmentation.
    """

    def __init__(
        self, speech: Speech, seconds: float, coded_share: float, augmentation: Augmentation, seed: int
    ) -> None:
        self.speech = speech
        self.coded_share = coded_share
        self.augmentation = augmentation
        self.seed = seed
        self.samples = speech.samples
        self.parts = parts(np.sort(self.samples), int(seconds * SAMPLE_RATE))
        self._epoch = lru_cache(maxsize=1)(self._order)

    def __len__(self) -> int:
        return len(self.parts)

    def _order(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, epoch])
        order = np.argsort(self.samples * rng.uniform(1 - JITTER, 1 + JITTER, len(self.samples)), kind="stable")
        batches = [order[begin:end].tolist() for begin, end in self.parts]
        return [batches[i] for i in rng.permutation(len(batches))]

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, place = divmod(step, len(self))
        rng = random.Random(f"{self.seed}/{step}")
        chosen = self._epoch(epoch)[place]
        sounds = [self.speech.sound(i, self._condition(rng)) for i in chosen]
        return Batch(*pad(augmented(sounds, rng, self.augmentation)), [self.speech.labels[i] for i in chosen])

    def _condition(self, rng: random.Random) -> str:
        return rng.choice(list(self.speech.round_trips)) if rng.random() < self.coded_share else ORIGINAL


def parts(samples: np.ndarray, largest: int) -> list[tuple[int, int]]:
    """Begins and ends of batches of utterances that are sorted by length, none larger than `largest` with padding."""
    found, begin = [], 0
    for i in range(len(samples)):
        if i > begin and (i - begin + 1) * samples[i] > largest:
            found.append((begin, i))
            begin = i
    return [*found, (begin, len(samples))]
