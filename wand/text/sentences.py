"""Splits long texts into parts that a model can speak one by one."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from wand.checks import check_whole_number
from wand.text.words import is_spoken

# Largest number of letters in a part, about 13 s of English speech.
LIMIT = 200
# A Chinese, Japanese or Korean letter takes about as long to speak as three letters of an alphabet.
WIDE = 3

# Marks that may follow the last one of a sentence.
CLOSING = "\"'”’»)]}"
_CLOSING_WIDE = "”’」』）】》〉"
# Possessive quantifiers match runs of marks whole or not at all, so that the search is linear.
SENTENCE_END = re.compile(rf"(?<![.!?;…])([.!?;…]++)([{re.escape(CLOSING)}]*+)(?=\s|$)|[。！？；]++[{_CLOSING_WIDE}]*+")
_PAUSE = re.compile(r"[,:–—](?=\s)|[，、：]")
_BLANK = re.compile(" ")

# fmt: off
# A full stop after one of these does not end a sentence.
_ABBREVIATIONS = {
    "mr", "mrs", "ms", "messrs", "dr", "prof", "st", "mt", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "gov",
    "sen", "jr", "sr", "mme", "mlle", "sra", "dra", "hr", "fr", "vs", "etc", "approx", "dept", "al", "cf", "viz", "inc",
    "ltd", "co", "corp", "bros", "ave", "blvd", "rd", "ph.d", "bzw", "usw", "ca", "ggf", "vgl",
}
# A full stop after one of these does not end a sentence if a number follows.
_BEFORE_NUMBERS = {
    "no", "nos", "nr", "fig", "figs", "vol", "vols", "ch", "chap", "sec", "eq", "pp", "art",
    "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
}
# fmt: on
# Initials and abbreviations with a full stop after each letter: J. R. R., J.-P., e.g., U.S.
_INITIALS = re.compile(r"([^\W\d_][.-]+)*[^\W\d_]")


def split_sentences(text: str, limit: int | None = LIMIT) -> list[str]:
    """Split a text into parts at the ends of sentences. Joined with blanks, the parts give the text, up to white space.

    Short sentences share a part. A sentence that is too long is cut into pieces of similar length: at pauses, else
    between words, else anywhere.

    Args:
        text: Text in a script whose sentences end with ``. ! ? ; …`` or ``。！？；``.
        limit: Largest number of letters in a part; Chinese, Japanese and Korean letters count three times. None makes
            every sentence a part, however short or long.

    Raises:
        ValueError: If the limit is below 10.
    """
    if limit is not None:
        check_whole_number("limit", limit, hint="give 10 letters or more")
    if limit is not None and limit < 10:
        raise ValueError(f"limit must be 10 letters or more, got {limit}")
    pieces = _sentences(" ".join(text.split()))
    if limit is not None:
        pieces = _merged([short for piece in pieces for short in _shortened(piece, limit)], limit)
    return [piece.strip() for piece in pieces]


def _sentences(text: str) -> list[str]:
    """Cut the text after the ends of sentences. A blank between two belongs to the second; marks alone are none."""
    ends: list[int] = []
    seen, spoken = 0, False
    for end in SENTENCE_END.finditer(text):
        spoken = spoken or is_spoken(text[seen : end.end()])
        seen = end.end()
        if spoken and ends_sentence(text, end):
            ends.append(seen)
            spoken = False
    if ends and not is_spoken(text[ends[-1] :]):
        ends.pop()
    return [text[a:b] for a, b in pairwise([0, *ends, len(text)]) if a < b]


def ends_sentence(text: str, end: re.Match[str]) -> bool:
    """Whether a match of `SENTENCE_END` in a text with single blanks ends a sentence."""
    following = text[end.end() + 1 : end.end() + 2]
    if end[2] and following.islower():  # "Really?" he asked.
        return False
    if end[1] != ".":
        return True
    return not is_abbreviation(text, end.start())


def is_abbreviation(text: str, stop: int) -> bool:
    """Whether the full stop at ``text[stop]`` ends an abbreviation or initials, and not a sentence."""
    word = text[text.rfind(" ", 0, stop) + 1 : stop].lstrip("\"'“‘«([{").lower()
    if word in _BEFORE_NUMBERS:
        return text[stop + 1 :].lstrip(" ")[:1].isdigit()
    return word in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None


def _shortened(text: str, limit: int) -> list[str]:
    """Cut a text into pieces within the limit, at the pause (else blank, else letter) nearest to its middle."""
    if size_of(text) <= limit:
        return [text]
    middle = len(text) // 2
    for mark in (_PAUSE, _BLANK):
        inside = [cut.end() for cut in mark.finditer(text) if 1 < cut.end() < len(text)]  # not its leading blank
        if inside:
            break
    else:
        inside = [middle]
    cut = min(inside, key=lambda place: abs(place - middle))
    return [*_shortened(text[:cut], limit), *_shortened(text[cut:], limit)]


def _merged(pieces: list[str], limit: int) -> list[str]:
    """Merge neighbouring pieces as long as they fit."""
    merged: list[str] = []
    for piece in pieces:
        if merged and size_of(merged[-1] + piece) <= limit:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def size_of(text: str) -> int:
    """Number of letters, with wide letters counted `WIDE` times."""
    return sum(WIDE if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text.strip())
