"""Reads numbers, abbreviations and symbols of English texts as words, as an American reads them aloud.

espeak-ng reads them too, but not all as a native does: it says `dollar five point five zero` for $5.50.
`tests/text/test_english.py` is the table of cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from wand.text.english_numbers import (
    cardinal,
    counted,
    decade,
    digits,
    fraction,
    money,
    money_range,
    number,
    ordinal,
    roman,
    two_digits,
    written_ordinal,
    year,
)
from wand.text.english_patterns import ALONE, AMOUNT, CLOCK, END, MONTH, NUMBER, SIGN, SIZE, UNIT, YEAR, any_of
from wand.text.english_tables import (
    AFTER_YEARS,
    BEFORE_NUMBERS,
    BEFORE_YEARS,
    DAYS,
    FRACTIONS,
    MONTHS,
    NUMBERED,
    RULERS,
    SHORT_MONTHS,
    SYMBOLS,
    TITLES,
    UNITS,
    WORDS,
    WORDS_LIKE_DAYS,
)

Rule = Callable[[re.Match[str]], str]
_RULES: list[tuple[re.Pattern[str], Rule]] = []


def spell(text: str) -> str:
    """The text with numbers, abbreviations and symbols as words. Punctuation that is heard as a pause stays.

    Args:
        text: English text, after `wand.text.characters.clean`.
    """
    for pattern, rule in _RULES:
        text = pattern.sub(rule, text)
    return " ".join(text.split())


def _rule(pattern: str, flags: int = 0) -> Callable[[Rule], Rule]:
    """Add a rule. Rules run in the order of this file, and each sees the words of those before it."""

    def add(rule: Rule) -> Rule:
        _RULES.append((re.compile(pattern, flags), rule))
        return rule

    return add


def _ends_sentence(found: re.Match[str]) -> bool:
    """Whether a match is followed by a capital letter or by nothing."""
    following = found.string[found.end() :].lstrip("\"') ")
    return not following or following[0].isupper()


# -- abbreviations -------------------------------------------------------------------------------------------------


@_rule("[\u2010-\u2012]")
def _dash_of_numbers(found: re.Match[str]) -> str:
    """The hyphen, the hyphen that does not break, and the dash of telephone numbers."""
    return "-"


@_rule(r"https?://", re.IGNORECASE)
def _protocol(found: re.Match[str]) -> str:
    return ""


@_rule(r"\b(e\.g\.|i\.e\.)", re.IGNORECASE)
def _latin(found: re.Match[str]) -> str:
    return "for example" if found[1].lower() == "e.g." else "that is"


@_rule(r"\s?\b([ap])\.\s?m\b\.?|(?<=\d)\s?([ap])m\b", re.IGNORECASE)
def _half_of_day(found: re.Match[str]) -> str:
    stop = "." if found[0].endswith(".") and _ends_sentence(found) else ""
    return f" {(found[1] or found[2]).upper()} M{stop}"


@_rule(r"\bPh\.\s?D\b\.?")
def _doctorate(found: re.Match[str]) -> str:
    return "P H D" + ("." if found[0].endswith(".") and _ends_sentence(found) else "")


@_rule(r"(?<=[a-z] )(St|Dr|Mt|Ft)\.(?=[,;]|\s*$|\s+[a-z])")
def _street(found: re.Match[str]) -> str:
    """After a name and before none: `Main St.`, not `St. Paul`."""
    word = {"St": "street", "Dr": "drive"}.get(found[1], TITLES[found[1].lower()])
    return word + ("." if not found.string[found.end() :].strip() else "")


@_rule(rf"(?<!\d)(?<!\d )\b((?i:{any_of(TITLES)}))\.(?=\s+[A-Z])|\b(Mr|Mrs|Ms|Dr|Prof)(?=\s+[A-Z])")
def _title(found: re.Match[str]) -> str:
    return TITLES[(found[1] or found[2]).lower()]


@_rule(rf"\b({any_of(BEFORE_NUMBERS)})\.\s?(?=\d)", re.IGNORECASE)
def _before_number(found: re.Match[str]) -> str:
    return BEFORE_NUMBERS[found[1].lower()] + " "


@_rule(rf"\b({any_of(SHORT_MONTHS)})\.(?=\s*\d)", re.IGNORECASE)
def _short_month(found: re.Match[str]) -> str:
    return MONTHS[SHORT_MONTHS[found[1].lower()]]


@_rule(rf"\b({any_of(DAYS)})\.?[-–]({any_of(DAYS)})\b(\.)?")
def _days(found: re.Match[str]) -> str:
    """The days of ``Mon.-Fri.``."""
    return f"{DAYS[found[1]]} to {DAYS[found[2]]}" + ("." if found[3] and _ends_sentence(found) else "")


@_rule(rf"\b({any_of(WORDS_LIKE_DAYS)})\.(?=,|\s+(?:[a-z\d]|{MONTH}\b))")
@_rule(rf"\b({any_of(set(DAYS) - set(WORDS_LIKE_DAYS))})\.(?!\w)")
def _short_day(found: re.Match[str]) -> str:
    """``Fri.``, and also ``Sun.`` if no sentence begins after it."""
    date_follows = re.match(rf"\s+{MONTH}\b", found.string[found.end() :])
    return DAYS[found[1]] + ("." if _ends_sentence(found) and not date_follows else "")


@_rule(rf"\b({any_of(WORDS)})\.(?=\W|$)", re.IGNORECASE)
def _abbreviation(found: re.Match[str]) -> str:
    return WORDS[found[1].lower()] + ("." if _ends_sentence(found) else "")


@_rule(r"\b(?:[A-Za-z]\.){2,}")
def _initialism(found: re.Match[str]) -> str:
    """``U.S.`` as the letters U S."""
    stop = "." if not found.string[found.end() :].strip("\"') ") else ""
    return " ".join(found[0].replace(".", " ").split()) + stop


# -- dates and times -----------------------------------------------------------------------------------------------


def _date(month: int, day: int, of: str | None) -> str:
    return f"{MONTHS[month - 1]} {ordinal(day)}" + (f", {year(int(of))}" if of else "")


def _month(name: str) -> int:
    """The number of a month from its name or abbreviation."""
    return SHORT_MONTHS.get(name.lower(), -1) + 1 or MONTHS.index(name.capitalize()) + 1


@_rule(rf"{ALONE}(\d{{4}})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b(?!-)")
def _iso_date(found: re.Match[str]) -> str:
    return _date(int(found[2]), int(found[3]), found[1])


@_rule(rf"{ALONE}(\d{{1,2}})/(\d{{1,2}})/({YEAR})\b")
def _numeric_date(found: re.Match[str]) -> str:
    """Month first, as Americans write. A first number above 12 is the day."""
    month, day = int(found[1]), int(found[2])
    if month > 12:
        month, day = day, month
    return _date(month, day, found[3]) if 1 <= month <= 12 and 1 <= day <= 31 else found[0]


@_rule(rf"\b({MONTH})\s+([12]?\d|3[01])(?:st|nd|rd|th)?[-–]([12]?\d|3[01])(?:st|nd|rd|th)?\b(?!\s?{UNIT}){END}")
def _days_of_month(found: re.Match[str]) -> str:
    return f"{_date(_month(found[1]), int(found[2]), None)} to {ordinal(int(found[3]))}"


@_rule(
    rf"\b({MONTH})\s+([12]?\d|3[01])(?:st|nd|rd|th)?(?:,?\s+({YEAR}))?\b"
    rf"(?![:.,]\d|[-–]\d|\s?{UNIT}(?!\.)|\s(?:{SIZE})\b)"
)
def _month_first(found: re.Match[str]) -> str:
    return _date(_month(found[1]), int(found[2]), found[3])


@_rule(rf"{ALONE}([12]?\d|3[01])(?:st|nd|rd|th)?\s+({any_of(MONTHS)})(?:,?\s+({YEAR}))?\b")
def _day_first(found: re.Match[str]) -> str:
    article = "" if re.search(r"\bthe\s+$", found.string[: found.start()]) else "the "
    return f"{article}{ordinal(int(found[1]))} of {found[2]}" + (f", {year(int(found[3]))}" if found[3] else "")


@_rule(rf"{ALONE}(?:({CLOCK})(?:[-–]|\s[-–]\s(?={CLOCK}))(?=\d{{1,2}}\b)|(\d{{1,2}})[-–](?={CLOCK}))")
def _times(found: re.Match[str]) -> str:
    """``2:30-3:00``, ``9 A M-5 P M``, ``9-10:30``."""
    return f"{found[1] or found[2]} to "


@_rule(rf"{ALONE}([01]?\d|2[0-4]):([0-5]\d)(?![\d:])(?:\s?([AP] M)\b)?")
def _time(found: re.Match[str]) -> str:
    hour, minute, half = int(found[1]), int(found[2]), found[3]
    words = cardinal(hour)
    if minute:
        words += f" {two_digits(minute)}"
    elif not half:
        words += " o'clock" if 1 <= hour <= 12 else " hundred"
    return words + (f" {half}" if half else "")


@_rule(r"(?<=\d):(?=\d)")
def _ratio(found: re.Match[str]) -> str:
    return " to "


# -- money, telephone numbers --------------------------------------------------------------------------------------


@_rule(rf"({SIGN})\s?{AMOUNT}(?:\s?[-–]\s?\1\s?|[-–]){AMOUNT}{END}", re.IGNORECASE)
def _money_range(found: re.Match[str]) -> str:
    return money_range(found[1], found[2], found[3] or found[4], found[5], found[6] or found[7])


@_rule(rf"((?<![\w.)%])[-−])?({SIGN})\s?{AMOUNT}", re.IGNORECASE)
def _money(found: re.Match[str]) -> str:
    return ("minus " if found[1] else "") + money(found[2], found[3], found[4] or found[5])


@_rule(rf"{ALONE}({NUMBER})\s?({SIZE})?(?:\s?({SIGN}))?\s?[-–]\s?({NUMBER})\s?({SIZE})?\s?({SIGN})", re.IGNORECASE)
def _money_range_sign_last(found: re.Match[str]) -> str:
    return money_range(found[6], found[1], found[2], found[4], found[5])


@_rule(rf"(?:((?<![\w.)%])[-−])|{ALONE})({NUMBER})\s?({SIZE})?\s?({SIGN})", re.IGNORECASE)
def _money_sign_last(found: re.Match[str]) -> str:
    return ("minus " if found[1] else "") + money(found[4], found[2], found[3])


@_rule(
    r"(?<![\w.,-])(?:\+\d{1,3}[ -])?(?:\(\d{3}\) ?|\d{3}[ -])?\d{3}-\d{4}\b(?!-)"
    rf"(?!\s?{UNIT}|\s(?:{SIZE})\b)"
    r"|(?<![\w.,])\+\d{1,3}(?:[ -]\d{2,4}){2,5}\b"
)
def _telephone(found: re.Match[str]) -> str:
    return ("plus " if found[0].startswith("+") else "") + digits(found[0])


# -- years ---------------------------------------------------------------------------------------------------------


@_rule(rf"{ALONE}({YEAR})\s?[-–]\s?({YEAR})\b")
def _years(found: re.Match[str]) -> str:
    return f"{year(int(found[1]))} to {year(int(found[2]))}"


@_rule(rf"{ALONE}({YEAR})[-–](\d\d)\b(?!\s?{UNIT}){END}")
def _years_of_century(found: re.Match[str]) -> str:
    """``1914-18``, but not ``2026-11``, which may be a month."""
    if int(found[2]) <= max(12, int(found[1]) % 100):
        return found[0]
    return f"{year(int(found[1]))} to {two_digits(int(found[2]))}"


@_rule(r"(?<![\w.,/:])((?:1[1-9]|20)\d0)'?s\b|'(\d0)s\b")
def _decade(found: re.Match[str]) -> str:
    return decade(int(found[1] or found[2]))


@_rule(rf"\b((?i:{any_of(BEFORE_YEARS)})|{MONTH})([\s-]+)({YEAR})\b(?![,.]?\d|\s?{UNIT})")
def _year_after(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{year(int(found[3]))}"


@_rule(rf"{ALONE}((?:19|20)\d\d)(?=\s+(?:{any_of(AFTER_YEARS)})\b|\)|[.,;?!]?$|[.,;?!]\s)")
def _year_alone(found: re.Match[str]) -> str:
    return year(int(found[1]))


# -- numbers -------------------------------------------------------------------------------------------------------


@_rule(rf"\b({any_of(RULERS)})\s+([IVX]{{2,}}|[VX])\b")
def _ruler(found: re.Match[str]) -> str:
    return f"{found[1]} the {ordinal(roman(found[2]))}"


@_rule(rf"\b({any_of(NUMBERED)}|(?i:{any_of(NUMBERED)})(?!\s+I\b))\s+([IVX]+)\b")
def _numbered(found: re.Match[str]) -> str:
    """``Part I``, but not `the part I like`."""
    return f"{found[1]} {cardinal(roman(found[2]))}"


@_rule(rf"(?<=[{''.join(FRACTIONS)}])[-–](?=[\d{''.join(FRACTIONS)}])|(?<=\b\d/\d)[-–](?=\d)")
def _fractions(found: re.Match[str]) -> str:
    return " to "


@_rule(rf"(\d+)?\s?([{''.join(FRACTIONS)}])")
def _fraction_letter(found: re.Match[str]) -> str:
    words = fraction(*FRACTIONS[found[2]])
    return f"{number(found[1])} and {words.replace('one ', 'a ', 1)}" if found[1] else words


@_rule(r"(?<![\w.,/])(?:(\d+)\s)?(\d{1,3})/(\d{1,3})(?![\w/])")
def _slashed(found: re.Match[str]) -> str:
    """``3/4`` as a fraction, ``24/7`` as two numbers."""
    upper, lower = int(found[2]), int(found[3])
    words = f"{cardinal(upper)} {cardinal(lower)}"
    if 0 < upper < lower and lower in (2, 3, 4, 5, 6, 8, 10, 16, 32, 100):
        words = fraction(upper, lower)
        return f"{number(found[1])} and {words.replace('one ', 'a ', 1)}" if found[1] else words
    return f"{number(found[1])} {words}" if found[1] else words


@_rule(rf"(?<![\w.])((?:{NUMBER})(?:\s?{UNIT}|st|nd|rd|th))(?:[-–]|\s[-–]\s(?=(?:{NUMBER})\s?{UNIT}))(?=\d)")
@_rule(rf"(?<![\w.])({NUMBER})\s?[-–]\s?(?=(?:{NUMBER})(?!\s?-\d))")
def _range(found: re.Match[str]) -> str:
    return f"{found[1]} to "


@_rule(r"(?<![\w.)%°])[-−–](?=\d)")
def _minus(found: re.Match[str]) -> str:
    return "minus "


@_rule(rf"(?<![\w.])({NUMBER})\s?({any_of(UNITS)})(?![\w/²³])(\.(?=\s+[a-z]))?")
def _unit(found: re.Match[str]) -> str:
    return counted(found[1], *UNITS[found[2]])


@_rule(r"\b(\d{1,3}(?:,\d{3})*|\d+)(?:st|nd|rd|th)\b", re.IGNORECASE)
def _ordinal(found: re.Match[str]) -> str:
    return written_ordinal(found[1])


# -- symbols -------------------------------------------------------------------------------------------------------


@_rule(r"#\s?(?=\w)")
def _hash(found: re.Match[str]) -> str:
    return "number " if found.string[found.end()].isdigit() else "hashtag "


@_rule(r"(?<=[a-z]{2})\.(?=[A-Z][a-z])")
def _missing_blank(found: re.Match[str]) -> str:
    """``the end.Then``: two sentences, not an address."""
    return ". "


@_rule(r"(?<=\w)\.(?=[A-Za-z])|(?<=[A-Za-z])\.(?=\w)")
def _dot(found: re.Match[str]) -> str:
    return " dot "


@_rule(r"(?<=\d)-(?=[A-Za-z])|(?<=[A-Za-z])-(?=\d)")
def _hyphen(found: re.Match[str]) -> str:
    """``2-year-old``, ``COVID-19``."""
    return " "


@_rule(r"\d+(?:\.\d+){2,}")
def _version(found: re.Match[str]) -> str:
    return " point ".join(number(part) for part in found[0].split("."))


@_rule(rf"{NUMBER}")
def _number(found: re.Match[str]) -> str:
    return f" {number(found[0])} "


@_rule(f"[{re.escape(''.join(SYMBOLS))}]")
def _symbol(found: re.Match[str]) -> str:
    return SYMBOLS[found[0]]


@_rule(r"\s+(?=[.,;:?!](?:\s|$))")
def _blank_before_mark(found: re.Match[str]) -> str:
    return ""
