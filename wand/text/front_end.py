"""Converts a text to the symbols of a model: letters or phones.

The way of a text: one form for equal characters (`wand.text.characters`), a check that the language is written in these
letters, English numbers and abbreviations as words (`wand.text.english`), phrases and their marks, phones of espeak-ng.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Literal

from wand.text.characters import base_language, check_scripts, clean
from wand.text.english import spell
from wand.text.sentences import is_abbreviation
from wand.text.words import place_words, split_words

FrontEnd = Literal["letters", "phones"]
AMERICAN = "en-us"

# The symbols that each front end can give.
SYMBOLS: dict[FrontEnd, str] = {
    "letters": " abcdefghijklmnopqrstuvwxyz'.,?!-",
    "phones": " ,.?!abdefhijklmnoprstuvwxzæðŋɐɑɒɔəɚɛɜɡɪɫɬɹɾʃʊʌʒʔθᵻˈˌː\u0303\u0329",
}

# Marks that are heard as a pause or a melody. A dot inside 3.5 or wand.io is none of them. A run of marks is tried from
# its beginning only, which takes linear time.
_MARK = re.compile(
    r"""
    (?<![.…,?!;:،؟؛。！？，；：、।॥])                      # before a blank; quotes and brackets may close first
    [.…,?!;:،؟؛。！？，；：、।॥]++ (?=["')\]}]*(?:\s|$))
    | \.{3,} | […。！？，；、।॥]+                          # anywhere
    | (?<![?!;,:]) [?!;,:]++ (?=[^\W\d])               # a blank is missing: "Who?No"
    | [—–] | --+ | \s-(?=\s)                            # a dash
    """,
    re.VERBOSE,
)
_FULL_STOPS, _QUESTIONS, _CALLS = ".…。।॥", "?？؟", "!！"
# espeak-ng marks words that it reads in another language: ``(fr)`` before and ``(en-us)`` after.
_LANGUAGE_FLAG = re.compile(r"\([a-z]{2,3}(?:-[a-z0-9-]+)?\)")


def letters(text: str, language: str = AMERICAN) -> str:
    """The text in lower case with single spaces. Numbers are not spelled out."""
    return " ".join(clean(text).lower().split())


def phones(text: str, language: str = AMERICAN) -> str:
    """IPA of espeak-ng with stress marks. Numbers are spelled out; ``. , ? !`` are kept.

    Args:
        text: The text.
        language: espeak-ng language.

    Raises:
        ValueError: If espeak-ng is not installed, or the language is not written in the letters of the text.
    """
    return _phones_of_each([text], language)[0]


def _phones_of_each(texts: Sequence[str], language: str) -> list[str]:
    """The phones of each text, read alone. espeak-ng is opened once for all of them."""
    from wand.text.espeak import phonemes

    split = []
    for text in map(clean, texts):
        check_scripts(text, language)
        split.append(_split(spell(text) if base_language(language) == "en" else text))
    spoken = iter(phonemes([phrase for phrases, _ in split for phrase in phrases], language))
    read = []
    for phrases, marks in split:
        plain = [" ".join(_LANGUAGE_FLAG.sub("", phrase).split()) for phrase in islice(spoken, len(phrases))]
        read.append(" ".join(phrase + mark for phrase, mark in zip(plain, marks, strict=True) if phrase))
    return read


FRONT_ENDS = {"letters": letters, "phones": phones}


def written_words(
    text: str, spoken: str, front_end: FrontEnd, language: str = AMERICAN
) -> tuple[list[str], list[int | None]]:
    """The words of a text as they are written, and where each begins in the text that a front end has read.

    Args:
        text: The text.
        spoken: What the front end has made of it. It may begin with a blank, which belongs to the first word.
        front_end: The front end.
        language: Language of the phones.

    Returns:
        The words, each with the blanks before it, and the index of the first symbol of each (of its blank); None for a
        word that is spoken as one with the word before it. The first word begins at 0.
    """
    words = split_words(text)
    read = [letters(word) for word in words] if front_end == "letters" else _phones_of_each(words, language)
    readings = [
        f" {one}" if front_end == "phones" or word[:1].isspace() else one for word, one in zip(words, read, strict=True)
    ]
    readings[0] = " " * spoken.startswith(" ") + read[0]
    return words, place_words(readings, spoken)


def _split(text: str) -> tuple[list[str], list[str]]:
    """The phrases of a text, and the mark after each: ``. , ? !`` or nothing."""
    phrases, marks, begin = [], [], 0
    for found in _MARK.finditer(text):
        if found[0] == "." and _goes_on(text, found.start()):
            continue
        phrases.append(text[begin : found.start()])
        marks.append(_mark(found[0], text[found.end() :]))
        begin = found.end()
    return [*phrases, text[begin:]], [*marks, ""]


def _goes_on(text: str, stop: int) -> bool:
    """Whether the sentence goes on after a full stop: it ends an abbreviation or initials, and words follow."""
    word = text[text.rfind(" ", 0, stop) + 1 : stop]
    return word not in ("I", "a") and bool(text[stop + 1 :].strip("\"')]} ")) and is_abbreviation(text, stop)


def _mark(punctuation: str, following: str) -> str:
    """One mark for a run of punctuation. An ellipsis inside a sentence is a short pause."""
    if any(mark in punctuation for mark in _QUESTIONS):
        return "?"
    if any(mark in punctuation for mark in _CALLS):
        return "!"
    goes_on = following.lstrip("\"')]} ")[:1].islower()
    ellipsis = "…" in punctuation or "..." in punctuation
    if any(mark in punctuation for mark in _FULL_STOPS) and not (ellipsis and goes_on):
        return "."
    return ","
