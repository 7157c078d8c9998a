"""The reference of every utterance: its choice, a pure function of the utterances, and what a model takes of it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

from wand.codecs.reference import Reference
from wand.data.example import Refusal
from wand.data.sources.source import SPLITS, SpeechCodes, SpeechSource, Utterance
from wand.data.validate import read_sound
from wand.model.backbone import Backbone

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
        speech = (0, frames[reference]) if voiced is None else voiced[reference]
        chosen.append((reference, draw_beginning(rng, frames[reference], speech, keep)))
    return chosen


def draw_beginning(rng: random.Random, frames: int, voiced: tuple[int, int], keep: int = 110) -> int:
    """Draw the frame where a reference begins in an utterance; see `choose_references` for the arguments."""
    drawn = rng.randint(0, max(0, frames - keep))
    begin, end = voiced
    return max(begin, min(drawn, end - keep))


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


class References:
    """Finds the references of the utterances of a shard.

    Args:
        source: The corpus.
        encoder: Gives the codes of an utterance that is not in the shard.
        backbone: The model, which says what it takes of a reference.
    """

    def __init__(
        self, source: SpeechSource, encoder: Callable[[Utterance], SpeechCodes | Refusal], backbone: Backbone
    ) -> None:
        self.source = source
        # Many utterances may name the same one.
        self.encode = lru_cache(maxsize=256)(encoder)
        self.backbone = backbone

    def __call__(self, kept: Sequence[tuple[Utterance, SpeechCodes]]) -> list[tuple[str, Reference] | Refusal]:
        """The reference of every utterance of a shard, with the id of the utterance that it was taken from.

        Args:
            kept: The utterances that can be used, with their codes.
        """
        utterances = [utterance for utterance, _ in kept]
        places = {utterance.id: i for i, utterance in enumerate(utterances)}
        made: list[tuple[str, Reference] | Refusal] = []
        for utterance, (chosen, begin) in zip(utterances, self._choices(kept), strict=True):
            named = utterance.reference
            try:
                if named is None:
                    reference, own = kept[chosen]
                else:
                    reference, own = kept[places[named]] if named in places else self._elsewhere(named)
                    begin = draw_beginning(random.Random(utterance.id), own.codes.shape[1], _voiced(own))
                if self.backbone.cut_references:
                    taken = Reference(own.codes[:, begin : _voiced(own)[1]], speaker=reference.speaker)
                else:
                    # The prefix must not contain the target text. An utterance that is its own reference gives no text.
                    taken = self._whole(reference, own, None if reference.id == utterance.id else reference.text)
                made.append((reference.id, taken))
            except ValueError as error:
                made.append(Refusal(utterance.id, "its reference", str(error)))
        return made

    def _choices(self, kept: Sequence[tuple[Utterance, SpeechCodes]]) -> list[tuple[int, int]]:
        """The reference of every utterance that names none, and the frame where it begins if it is cut."""
        utterances = [utterance for utterance, _ in kept]
        frames = [own.codes.shape[1] for _, own in kept]
        if self.backbone.cut_references:
            return choose_references(utterances, frames, voiced=[_voiced(own) for _, own in kept])
        seconds = [count / self.backbone.frame_rate for count in frames]
        return [(i, 0) for i in choose_whole_references(utterances, seconds)]

    def _whole(self, utterance: Utterance, own: SpeechCodes, words: str | None) -> Reference:
        audio = None
        if self.backbone.hears_references:
            audio = read_sound(self.source, utterance, self.backbone.sample_rate)
        return Reference(own.codes, audio, words, own.global_codes, utterance.speaker)

    def _elsewhere(self, name: str) -> tuple[Utterance, SpeechCodes]:
        """A reference utterance that is not in this shard, and its codes."""
        if name not in self._by_id:
            raise ValueError(f"the corpus has no utterance with the id {name!r}")
        own = self.encode(self._by_id[name])
        if isinstance(own, Refusal):
            raise ValueError(own.detail)
        return self._by_id[name], own

    @cached_property
    def _by_id(self) -> dict[str, Utterance]:
        return {utterance.id: utterance for split in SPLITS for utterance in self.source.utterances(split)}


def _voiced(own: SpeechCodes) -> tuple[int, int]:
    """First frame of the speech in an utterance, and the frame after its end."""
    return own.voiced or (0, own.codes.shape[1])
