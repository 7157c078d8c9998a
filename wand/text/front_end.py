"""Converts a text to the symbols of a model: letters or phones.

The way of a text: one form for equal characters (`wand.text.characters`), a check that the language is written in these
letters, English numbers and abbreviations as words (`wand.text.english`), phrases and their marks, phones of espeak-ng.
"""

from __future__ import annotations

import re
from typing import Literal

from wand.text.characters import base_language, check_scripts, clean
from wand.text.english import spell
from wand.text.sentences import is_abbreviation

FrontEnd = Literal["letters", "phones"]
AMERICAN = "en-us"

# The symbols that each front end can give.
SYMBOLS: dict[FrontEnd, str] = {
    "letters": " abcdefghijklmnopqrstuvwxyz'.,?!-",
    "phones": " ,.?!abdefhijklmnoprstuvwxzæðŋɐɑɒɔəɚɛɜɡɪɫɬɹɾʃʊʌʒʔθᵻˈˌː\u0303\u0329",
}

# Marks that are heard as a pause or a melody. A dot inside 3.5 or wand.io is none of them.
_MARK = re.compile(
    r"""
    [.…,?!;:،؟؛。！？，；：、।॥]+ (?=["')\]}]*(?:\s|$))  # before a blank; quotes and brackets may close first
    | \.{3,} | […。！？，；、।॥]+                          # anywhere
    | [?!;,:]+ (?=[^\W\d])                              # a blank is missing: "Who?No"
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
    from wand.text.espeak import phonemes

    text = clean(text)
    check_scripts(text, language)
    if base_language(language) == "en":
        text = spell(text)
    phrases, marks = _split(text)
    spoken = [" ".join(_LANGUAGE_FLAG.sub("", phrase).split()) for phrase in phonemes(phrases, language)]
    return " ".join(phrase + mark for phrase, mark in zip(spoken, marks, strict=True) if phrase)


FRONT_ENDS = {"letters": letters, "phones": phones}


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
