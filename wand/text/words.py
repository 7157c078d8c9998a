"""Words as they are written, and where they are in a text that a front end has read."""

from __future__ import annotations

from collections.abc import Sequence

import regex
from rapidfuzz.distance import Levenshtein

# Scripts that are written without blanks: each letter, with the marks after it, counts as a word.
_LETTER = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
_WORD = regex.compile(rf"\s*(?:{_LETTER}[\p{{M}}ー]*[^\P{{P}}\p{{Ps}}\p{{Pi}}]*|(?:(?!{_LETTER})\S)+)")
_WIDE = regex.compile(_LETTER)
_SPOKEN = regex.compile(r"[\p{L}\p{N}]")


def is_spoken(text: str) -> bool:
    """Whether a text has letters or digits."""
    return _SPOKEN.search(text) is not None


def is_wide(word: str) -> bool:
    """Whether a word is a letter of a script without blanks."""
    return _WIDE.match(word) is not None


def split_words(text: str) -> list[str]:
    """The words of a text, each with the blanks before it and its punctuation. Joined, they give the text.

    A piece without letters and digits, such as a dash, belongs to the word before it. A letter of a script without
    blanks is a word.
    """
    begins: list[int] = []
    for found in _WORD.finditer(text):
        if is_spoken(found[0]):
            begins.append(found.start() if begins else 0)
    begins = begins or [0]
    return [text[begin:end] for begin, end in zip(begins, [*begins[1:], len(text)], strict=True)]


def place_words(readings: Sequence[str], spoken: str) -> list[int | None]:
    """Where each word begins in a text that was read as a whole.

    Words are read differently alone and among others: ``of the`` may become one word. Such a word has no place of its
    own.

    Args:
        readings: Each word read alone, with the blank before it if there is one.
        spoken: The words read together.

    Returns:
        The index in `spoken` of the first symbol of each reading (of its blank), None if it was not found there. The
        first word begins at 0.
    """
    equal = [block for block in Levenshtein.opcodes("".join(readings), spoken) if block.tag == "equal"]
    begins: list[int | None] = []
    begin, block = 0, 0
    for number, reading in enumerate(readings):
        while block < len(equal) and equal[block].src_end <= begin:
            block += 1
        found = reading and block < len(equal) and equal[block].src_start <= begin
        place = equal[block].dest_start + begin - equal[block].src_start if found else None
        begins.append(place if number else 0)
        begin += len(reading)
    return begins
