"""Parts of the patterns of `wand.text.english`: numbers, months, units, money and times of the day."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wand.text.english_tables import MONEY, MONTHS, SHORT_MONTHS, SIZES, UNITS, WORDS_LIKE_MONTHS


def any_of(names: Iterable[str]) -> str:
    """A pattern of any of these names, the longest first."""
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


# A number is not the end of another, of a word, or of something like 1/2.
ALONE = r"(?<![\w.,/:-])"
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
YEAR = r"(?:1[1-9]|20)\d\d"
MONTH = rf"(?!{any_of(WORDS_LIKE_MONTHS)})(?i:{any_of((*MONTHS, *SHORT_MONTHS))})"
UNIT = rf"(?:{any_of(UNITS)})(?![\w/²³])"
SIZE = "thousand|million|billion|trillion"
SIGN = f"[{''.join(MONEY)}]"
# A number and its size: 5, 5 million, 5-million, 5k.
AMOUNT = rf"({NUMBER})(?:[\s-]?({SIZE})\b|({any_of(SIZES)})\b)?"
# Hours with minutes or with A M, as `_half_of_day` leaves them.
CLOCK = r"\d{1,2}(?::[0-5]\d(?: [AP] M\b)?| [AP] M\b)"
# No range goes on like 1-2-3.
END = r"(?!\d|[.,:/]\d|\s?[-–]\d)"
