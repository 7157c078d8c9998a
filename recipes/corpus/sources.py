"""Streams of sentences by kind, without the words that are held out and without test sentences."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator
from functools import cache

from recipes.corpus.forbidden import Forbidden, spelled, spoken_words
from recipes.corpus.grammar import Grammar, frame_words
from recipes.corpus.lexicon import Lexicon, held_out_words
from recipes.corpus.natural import NATURAL, natural_sentences
from wand.demo import sentences as demo
from wand.demo.corpus import split_of
from wand.text.english_numbers import cardinal, ordinal
from wand.text.english_tables import MONTHS

GRAMMARS = ("everyday", "words", "names", "short")
# Kinds of sentences, and their shares of the hours.
SHARES = {
    "demo": 0.25,
    "everyday": 0.33,
    "words": 0.14,
    "names": 0.08,
    "short": 0.05,
    "fortunes": 0.12,
    "bible": 0.03,
    "prose": 0.01,
}
# Kinds that need no Debian package.
GENERATED = ("demo", *GRAMMARS)
# Kinds of test sentences: of words that are trained, and with a word that is not.
SEEN, UNSEEN = "seen", "unseen"
# Letters, and marks that are heard as a pause. Everything else must become words before it can be spoken.
_SPEAKABLE = re.compile(r"[A-Za-z',.?!;: -]+")
# Letters of the longest sentence, which takes about 20 seconds.
LONGEST = 280


@cache
def always_trained() -> frozenset[str]:
    """The words of the frames and of the demo's sentences, and numbers. They are never held out."""
    lists = [value for value in vars(demo).values() if isinstance(value, tuple)]
    texts = [text for values in lists for text in values if isinstance(text, str)] + list(MONTHS)
    texts += [f"{cardinal(n)} {ordinal(n)}" for n in (*range(100), 1000, 10**6)]
    return frozenset(spoken_words(" ".join(texts))).union(*map(frame_words, GRAMMARS))


@cache
def held_out() -> frozenset[str]:
    """The words that are never trained."""
    return held_out_words(always_trained())


def stream(
    kind: str, split: str, seed: int, forbidden: Forbidden, trained: Collection[str] | None = None
) -> Iterator[str]:
    """Distinct sentences of one kind and split, without held-out words. Natural ones come to an end.

    Args:
        kind: One of `SHARES`.
        split: Every sentence is in the same split for every seed.
        seed: Seed of the order and of the draws.
        forbidden: Test sentences, which are left out.
        trained: The words to fill open slots with; None fills them with all words that are not held out.
    """
    seen: set[str] = set()
    for text in _sentences(kind, random.Random(f"{seed} {split} {kind}"), Lexicon(trained, held_out())):
        said = spoken_words(text)
        if text in seen or not is_speakable(text) or not held_out().isdisjoint(said):
            continue
        if split_of(text) == split and forbidden.allows(said):
            seen.add(text)
            yield text


def seen_stream(seed: int, forbidden: Forbidden, trained: Collection[str]) -> Iterator[str]:
    """Test sentences of all generated kinds whose words are all trained.

    Args:
        seed: Seed of the draws.
        forbidden: Test sentences of other lists, which are left out.
        trained: The words of the training sentences and of the frames.
    """
    streams = [stream(kind, "test", seed, forbidden, trained) for kind in GENERATED]
    while True:
        for one in streams:
            yield next(text for text in one if all(word in trained for word in spoken_words(text)))


def unseen_stream(seed: int, forbidden: Forbidden) -> Iterator[str]:
    """Test sentences with at least one word that is never trained."""
    rng = random.Random(f"{seed} {UNSEEN}")
    lexicon, seen = Lexicon(only=held_out()), set[str]()
    streams = [_sentences(kind, rng, lexicon) for kind in ("everyday", "words", "short")]
    while True:
        for one in streams:
            for text in one:
                said = spoken_words(text)
                if text not in seen and is_speakable(text) and forbidden.allows(said) and held_out() & {*said}:
                    break
            seen.add(text)
            yield text


def is_speakable(text: str) -> bool:
    """Whether front end and voices can speak a text: it is words after `spell`, and neither empty nor too long."""
    words = spelled(text)
    return 2 <= len(words) <= LONGEST and _SPEAKABLE.fullmatch(words) is not None


def _sentences(kind: str, rng: random.Random, lexicon: Lexicon) -> Iterator[str]:
    if kind in NATURAL:
        found = natural_sentences(kind)
        yield from rng.sample(found, len(found))
        return
    grammar = None if kind == "demo" else Grammar(kind, lexicon)
    while True:
        yield demo.sentence(rng) if grammar is None else grammar.draw(rng)
