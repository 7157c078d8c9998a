"""What is said in an utterance: its letters and its phones, and which of them belong to which word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from recipes.corpus.pronunciation import cmu_phones
from wand.recognition.network import LETTERS
from wand.text.characters import clean
from wand.text.english import spell
from wand.text.espeak import phonemes
from wand.text.front_end import phones


class Labels(NamedTuple):
    """What is said in an utterance.

    Args:
        letters: The words in `LETTERS`, with single spaces.
        phones: The phones in `wand.recognition.network.PHONES`.
    """

    letters: str
    phones: list[str]


def labels_of(text: str) -> Labels:
    """The labels of a text."""
    return Labels(spoken_letters(text), [phone for word in phones(text).split() for phone in without_stress(word)])


def spoken_letters(text: str) -> str:
    """The letters that are heard: numbers and abbreviations as words, no punctuation."""
    return " ".join("".join(letter if letter in LETTERS else " " for letter in spell(clean(text)).lower()).split())


def without_stress(ipa: str) -> list[str]:
    """The phones of one word of espeak-ng's IPA, without stress: ``hɐlˈoʊ`` is ``hh ah l ow``.

    flite's schwa is the unstressed ``ah`` of the dictionary.
    """
    phones = [phone.rstrip("012") for phone in cmu_phones(ipa)]
    return ["ah" if phone == "ax" else phone for phone in phones]


def by_word(spoken: Sequence[str], words: Sequence[str]) -> list[list[str]]:
    """The phones of a sentence, grouped by its words.

    Neighbouring words may be pronounced together ("of the"). The phones of the words alone are therefore aligned with
    those of the sentence along a shortest edit path.

    Args:
        spoken: The phones of the sentence.
        words: Its words, at least one.
    """
    alone = [(phone, i) for i, word in enumerate(words) for phone in _alone(word)] or [("", 0)]
    groups: list[list[str]] = [[] for _ in words]
    for edit in Levenshtein.opcodes([phone for phone, _ in alone], list(spoken)):
        for k in range(edit.dest_start, edit.dest_end):
            place = min(edit.src_start + k - edit.dest_start, max(edit.src_start, edit.src_end - 1), len(alone) - 1)
            groups[alone[place][1]].append(spoken[k])
    return groups


@cache
def _alone(word: str) -> list[str]:
    return [phone for part in phonemes([word])[0].split() for phone in without_stress(part)]
