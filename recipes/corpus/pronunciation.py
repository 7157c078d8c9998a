"""Converts espeak-ng's American phones to the phones of CMU's dictionary, and makes a lexicon for flite."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from rapidfuzz.distance import Levenshtein

# Phones of espeak-ng (`en-us`, IPA) and their counterparts in CMU's dictionary. The longest match wins.
_CMU = {
    "oʊ": "ow", "eɪ": "ey", "aɪ": "ay", "aʊ": "aw", "ɔɪ": "oy", "iː": "iy", "uː": "uw", "ɑː": "aa", "ɔː": "ao",
    "ɜː": "er", "oː": "ao", "æ": "ae", "ə": "ax", "ɚ": "er", "ɜ": "er", "ɪ": "ih", "ᵻ": "ax", "i": "iy", "ʊ": "uh",
    "u": "uw", "ʌ": "ah", "ɛ": "eh", "ɐ": "ax", "ɒ": "aa", "ɑ": "aa", "ɔ": "ao", "a": "ae", "e": "eh", "o": "ow",
    "n̩": "ax n", "l̩": "ax l", "tʃ": "ch", "dʒ": "jh", "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "ɡ": "g",
    "f": "f", "v": "v", "θ": "th", "ð": "dh", "s": "s", "z": "z", "ʃ": "sh", "ʒ": "zh", "h": "hh", "m": "m",
    "n": "n", "ŋ": "ng", "l": "l", "ɬ": "l", "ɹ": "r", "r": "r", "j": "y", "w": "w", "ɾ": "t", "ʔ": "t", "x": "k",
}  # fmt: skip
_PHONE = re.compile("|".join(sorted(map(re.escape, _CMU), key=len, reverse=True)))
_VOWELS = frozenset(("aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"))
_STRESS = {"ˈ": "1", "ˌ": "1"}  # flite knows stress 0 and 1, and only 0 for `ax`
# The other direction: for the times of phones, which flite gives in its own names.
_IPA = {cmu: ipa for ipa, cmu in reversed(_CMU.items())} | {"ax": "ə", "er": "ɚ", "ao": "ɔː", "aa": "ɑː"}


def cmu_phones(ipa: str) -> list[str]:
    """The phones of one word in CMU's notation: ``hɐlˈoʊ`` is ``hh ah0 l ow1``.

    Args:
        ipa: The word in espeak-ng's American phones.
    """
    phones, stress, place = [], "0", 0
    while place < len(ipa):
        found = _PHONE.match(ipa, place)
        if found is None:
            stress = _STRESS.get(ipa[place], stress)
            place += 1
            continue
        for phone in _CMU[found[0]].split():
            if phone in _VOWELS:
                phones.append(phone + ("0" if phone == "ax" else stress))
                stress = "0"
            elif phones[-1:] != [phone]:  # espeak-ng says the r of "curious" twice
                phones.append(phone)
        place = found.end()
    return phones


def ipa_phone(cmu: str) -> str:
    """The phone of espeak-ng for a phone of flite, such as ``ow`` or ``ax``; an empty text for a pause."""
    return _IPA.get(cmu, "")


def lexicon(text: str, spoken: str, isolated: Callable[[str], str]) -> dict[str, str]:
    """Entries that make flite say the words of a text as espeak-ng's phones.

    Args:
        text: The words: lower-case letters and punctuation.
        spoken: The phones of the text.
        isolated: Gives the phones of a word alone, for texts in which espeak-ng joins words (``of the``).

    Returns:
        The phones of each word in CMU's notation, as it is said most often in the text. Words with an apostrophe are
        left to flite, which splits them.
    """
    words = re.findall(r"[a-z']+", text.lower())
    said: dict[str, Counter[str]] = {}
    for word, phones in zip(words, _phones_of_words(words, spoken, isolated), strict=True):
        if "'" not in word and phones:
            said.setdefault(word, Counter())[" ".join(phones)] += 1
    return {word: forms.most_common(1)[0][0] for word, forms in said.items()}


def _phones_of_words(words: list[str], spoken: str, isolated: Callable[[str], str]) -> list[list[str]]:
    """The phones of every word. Where words are joined, each gets the phones that are most like its isolated ones."""
    tokens = re.sub(r"[.,?!]", " ", spoken).split()
    if len(words) == len(tokens):
        return [cmu_phones(token) for token in tokens]
    said = [phone for token in tokens for phone in cmu_phones(token)]
    alone = [(i, phone) for i, word in enumerate(words) for phone in cmu_phones(isolated(word))]
    parts: list[list[str]] = [[] for _ in words]
    steps = Levenshtein.opcodes([phone.rstrip("01") for _, phone in alone], [phone.rstrip("01") for phone in said])
    for step in steps:
        for place in range(step.dest_start, step.dest_end):
            nearest = step.src_start + place - step.dest_start if step.tag != "insert" else step.src_start - 1
            parts[alone[max(0, nearest)][0]].append(said[place])
    return parts
