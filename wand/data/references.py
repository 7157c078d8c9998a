"""The choice of a reference for every utterance, as a pure function of the utterances."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from wand.data.sources.source import Utterance

# Preferred length of whole references, in seconds. Longer ones cost prefix columns and add little information.
SHORTEST, LONGEST = 2.0, 10.0


def choose_references(
    utterances: Sequence[Utterance],
    frames: Sequence[int],
    keep: int = 110,
    voiced: Sequence[tuple[int, int]] | None = None,
) -> list[tuple[int, int]]:
    """For every utterance, choose another utterance of its speaker and the frame where the reference begins.

    The choice is deterministic, so preparing the cache again gives the same result. A speaker with a single utterance
    uses that utterance.

    Args:
        utterances: The utterances of one shard.
        frames: Length of each utterance, in frames.
        keep: A reference keeps at least this many frames after its beginning, if the utterance has that many.
        voiced: First frame of the speech in each utterance, and the frame after its end. A reference begins inside, so
            that it does not consist of silence. By default, the whole utterance.
    """
    by_speaker = defaultdict(list)
    for i, utterance in enumerate(utterances):
        by_speaker[utterance.speaker].append(i)
    chosen = []
    for i, utterance in enumerate(utterances):
        rng = random.Random(utterance.id)
        others = [j for j in by_speaker[utterance.speaker] if j != i] or [i]
        reference = rng.choice(others)
        drawn = rng.randint(0, max(0, frames[reference] - keep))
        begin, end = (0, frames[reference]) if voiced is None else voiced[reference]
        chosen.append((reference, max(begin, min(drawn, end - keep))))
    return chosen


def choose_whole_references(utterances: Sequence[Utterance], seconds: Sequence[float]) -> list[int]:
    """For every utterance, choose another whole utterance of its speaker, if possible of the preferred length.

    A speaker with a single utterance uses that utterance.

    Args:
        utterances: The utterances of one shard.
        seconds: Duration of each utterance.
    """
    by_speaker = defaultdict(list)
    for i, utterance in enumerate(utterances):
        by_speaker[utterance.speaker].append(i)
    chosen = []
    for i, utterance in enumerate(utterances):
        others = [j for j in by_speaker[utterance.speaker] if j != i]
        fitting = [j for j in others if SHORTEST <= seconds[j] <= LONGEST]
        # A reference that is too long is worse than one that is too short, because it is in the prefix of every step.
        short = [j for j in others if seconds[j] <= LONGEST]
        chosen.append(random.Random(utterance.id).choice(fitting or short or others or [i]))
    return chosen
