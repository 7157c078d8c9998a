"""Converts text to the symbols of a model (letters or phones), and to the plain words that error rates compare."""

from __future__ import annotations

import re
from typing import Literal

FrontEnd = Literal["letters", "phones"]

# The symbols that each front end can give.
SYMBOLS: dict[FrontEnd, str] = {
    "letters": " abcdefghijklmnopqrstuvwxyz'.,?!-",
    "phones": " ,.?!abdefhijklmnoprstuvwxzæðŋɐɑɒɔəɚɛɜɡɪɫɬɹɾʃʊʌʒʔθᵻˈˌː\u0303\u0329",
}

_PUNCTUATION = re.compile(r"([.,?!;:]+)(?=\s|$)")


def letters(text: str) -> str:
    """The text in lower case with single spaces. Numbers are not spelled out."""
    return " ".join(text.lower().split())


def phones(text: str) -> str:
    """IPA of espeak-ng's American English with stress marks. Numbers are spelled out; ``. , ? !`` are kept.

    Raises:
        ValueError: If espeak-ng is not installed.
    """
    from wand.text.espeak import phonemes

    parts = _PUNCTUATION.split(text)
    spoken, marks = phonemes(parts[::2]), [*(_mark(m) for m in parts[1::2]), ""]
    return " ".join(phrase + mark for phrase, mark in zip(spoken, marks, strict=True) if phrase)


def _mark(punctuation: str) -> str:
    last = punctuation[-1]
    return "," if last in ";:" else last


FRONT_ENDS = {"letters": letters, "phones": phones}

# fmt: off
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = (
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)
_POWERS = ((1_000_000_000, "billion"), (1_000_000, "million"), (1000, "thousand"), (100, "hundred"))
# fmt: on


def number_words(value: int) -> str:
    """Spell a whole number below a trillion, for example 342 as `three hundred and forty two`.

    Raises:
        ValueError: If it is negative or too large.
    """
    if not 0 <= value < 10**12:
        raise ValueError(f"value must lie in 0..{10**12 - 1}, got {value}")
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, rest = divmod(value, 10)
        return _TENS[tens] if rest == 0 else f"{_TENS[tens]} {_ONES[rest]}"
    size, name = next(power for power in _POWERS if power[0] <= value)
    head, rest = divmod(value, size)
    if rest == 0:
        return f"{number_words(head)} {name}"
    return f"{number_words(head)} {name} {'and ' if rest < 100 else ''}{number_words(rest)}"


def plain_words(text: str) -> str:
    """The text as error rates compare it: lower case, numbers as words, no punctuation, hyphens as spaces."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower().replace("\u2019", "'"))
    text = re.sub(r"\d+(?:\.\d+)?", lambda found: f" {_spell(found[0])} ", text)
    kept = "".join(c if c.isalpha() or c == "'" else " " for c in text)
    return " ".join(word for word in (piece.strip("'") for piece in kept.split()) if word)


def _spell(number: str) -> str:
    whole, _, digits = number.partition(".")
    words = number_words(int(whole)) if len(whole) <= 12 else " ".join(_ONES[int(digit)] for digit in whole)
    return words if not digits else f"{words} point {' '.join(_ONES[int(digit)] for digit in digits)}"
