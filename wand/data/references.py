"""Which utterance is the reference of which: a pure function of the utterances."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from wand.data.sources.source import Utterance

# Whole references of this length are preferred, in seconds; longer ones cost prefix columns and tell little more.
SHORTEST, LONGEST = 2.0, 10.0


def choose_references(utterances: Sequence[Utterance], frames: Sequence[int], keep: int = 110) -> list[tuple[int, int]]:
    """For every utterance another one of its speaker, and the frame where the reference begins.

    The choice depends on the utterance alone, so that a cache made again is the same. A speaker with a single
    utterance refers to it.

    Args:
        utterances: Of one shard.
        frames: Of each.
        keep: A reference begins so that at least this many frames follow, where there are so many.
    """
    by_speaker = defaultdict(list)
    for i, utterance in enumerate(utterances):
        by_speaker[utterance.speaker].append(i)
    chosen = []
    for i, utterance in enumerate(utterances):
        rng = random.Random(utterance.id)
        others = [j for j in by_speaker[utterance.speaker] if j != i] or [i]
        reference = rng.choice(others)
        chosen.append((reference, rng.randint(0, max(0, frames[reference] - keep))))
    return chosen


def choose_whole_references(utterances: Sequence[Utterance], seconds: Sequence[float]) -> list[int]:
    """For every utterance another one of its speaker, of a fitting length where there is one; itself if it is alone.

    Args:
        utterances: Of one shard.
        seconds: How long each lasts.
    """
    by_speaker = defaultdict(list)
    for i, utterance in enumerate(utterances):
        by_speaker[utterance.speaker].append(i)
    chosen = []
    for i, utterance in enumerate(utterances):
        others = [j for j in by_speaker[utterance.speaker] if j != i]
        fitting = [j for j in others if SHORTEST <= seconds[j] <= LONGEST]
        # Too long is worse than too short: it is in the prefix of every step.
        short = [j for j in others if seconds[j] <= LONGEST]
        chosen.append(random.Random(utterance.id).choice(fitting or short or others or [i]))
    return chosen
