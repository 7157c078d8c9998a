"""Reads numbers, abbreviations and symbols of English texts as words, as an American reads them aloud.

espeak-ng reads them too, but not all as a native does: it says `dollar five point five zero` for $5.50.
`tests/text/test_english.py` is the table of cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from wand.text.english_numbers import (
    cardinal,
    decade,
    digits,
    fraction,
    number,
    ordinal,
    roman,
    two_digits,
    written_ordinal,
    year,
)
from wand.text.english_tables import (
    AFTER_YEARS,
    BEFORE_NUMBERS,
    BEFORE_YEARS,
    DAYS,
    FRACTIONS,
    MONEY,
    MONTHS,
    NUMBERED,
    RULERS,
    SHORT_MONTHS,
    SIZES,
    SYMBOLS,
    TITLES,
    UNITS,
    WORDS,
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


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def _ends_sentence(found: re.Match[str]) -> bool:
    """Whether a match is followed by a capital letter or by nothing."""
    following = found.string[found.end() :].lstrip("\"') ")
    return not following or following[0].isupper()


def _counted(amount: str, one: str, many: str) -> str:
    return f"{number(amount)} {one if amount == '1' else many}"


# A number is not the end of another, of a word, or of something like 1/2.
_ALONE = r"(?<![\w.,/:-])"
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_YEAR = r"(?:1[1-9]|20)\d\d"
_MONTH = _any_of((*MONTHS, *SHORT_MONTHS))
_SIZE = "thousand|million|billion|trillion"
_SIGN = f"[{''.join(MONEY)}]"


# -- abbreviations -------------------------------------------------------------------------------------------------


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


@_rule(rf"\b((?i:{_any_of(TITLES)}))\.(?=\s+[A-Z])|\b(Mr|Mrs|Ms|Dr|Prof)(?=\s+[A-Z])")
def _title(found: re.Match[str]) -> str:
    return TITLES[(found[1] or found[2]).lower()]


@_rule(rf"\b({_any_of(BEFORE_NUMBERS)})\.\s?(?=\d)", re.IGNORECASE)
def _before_number(found: re.Match[str]) -> str:
    return BEFORE_NUMBERS[found[1].lower()] + " "


@_rule(rf"\b({_any_of(SHORT_MONTHS)})\.(?=\s*\d)", re.IGNORECASE)
def _short_month(found: re.Match[str]) -> str:
    return MONTHS[SHORT_MONTHS[found[1].lower()]]


@_rule(rf"\b({_any_of(DAYS)})\.(?=,|\s+\w)")
def _short_day(found: re.Match[str]) -> str:
    return DAYS[found[1]]


@_rule(rf"\b({_any_of(WORDS)})\.(?=\W|$)", re.IGNORECASE)
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


@_rule(rf"{_ALONE}(\d{{4}})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b(?!-)")
def _iso_date(found: re.Match[str]) -> str:
    return _date(int(found[2]), int(found[3]), found[1])


@_rule(rf"{_ALONE}(\d{{1,2}})/(\d{{1,2}})/({_YEAR})\b")
def _numeric_date(found: re.Match[str]) -> str:
    """Month first, as Americans write. A first number above 12 is the day."""
    month, day = int(found[1]), int(found[2])
    if month > 12:
        month, day = day, month
    return _date(month, day, found[3]) if 1 <= month <= 12 and 1 <= day <= 31 else found[0]


@_rule(rf"\b({_MONTH})\s+([12]?\d|3[01])(?:st|nd|rd|th)?(?:,?\s+({_YEAR}))?\b(?![:.,]\d)", re.IGNORECASE)
def _month_first(found: re.Match[str]) -> str:
    return _date(_month(found[1]), int(found[2]), found[3])


@_rule(rf"{_ALONE}([12]?\d|3[01])(?:st|nd|rd|th)?\s+({_any_of(MONTHS)})(?:,?\s+({_YEAR}))?\b")
def _day_first(found: re.Match[str]) -> str:
    article = "" if re.search(r"\bthe\s+$", found.string[: found.start()]) else "the "
    return f"{article}{ordinal(int(found[1]))} of {found[2]}" + (f", {year(int(found[3]))}" if found[3] else "")


@_rule(rf"{_ALONE}([01]?\d|2[0-4]):([0-5]\d)(?![\d:])(?:\s?([AP] M)\b)?")
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


def _amount(sign: str, amount: str, size: str | None) -> str:
    one, many, small, smalls = MONEY[sign]
    if size:
        return f"{number(amount)} {SIZES.get(size.lower(), size.lower())} {many}"
    whole, _, rest = amount.partition(".")
    if len(rest) != 2 or not small:
        return _counted(amount, one, many)
    cents = _counted(str(int(rest)), small, smalls) if int(rest) else ""
    if whole == "0" and cents:
        return cents
    return _counted(whole, one, many) + (f" and {cents}" if cents else "")


@_rule(rf"({_SIGN})\s?({_NUMBER})(?:\s?({_SIZE})\b|({_any_of(SIZES)})\b)?", re.IGNORECASE)
def _money(found: re.Match[str]) -> str:
    return _amount(found[1], found[2], found[3] or found[4])


@_rule(rf"{_ALONE}({_NUMBER})\s?({_SIZE})?\s?({_SIGN})", re.IGNORECASE)
def _money_sign_last(found: re.Match[str]) -> str:
    return _amount(found[3], found[1], found[2])


@_rule(
    r"(?<![\w.,-])(?:\+\d{1,3}[ -])?(?:\(\d{3}\) ?|\d{3}[ -])?\d{3}-\d{4}\b(?!-)"
    r"|(?<![\w.,])\+\d{1,3}(?:[ -]\d{2,4}){2,5}\b"
)
def _telephone(found: re.Match[str]) -> str:
    return ("plus " if found[0].startswith("+") else "") + digits(found[0])


# -- years ---------------------------------------------------------------------------------------------------------


@_rule(rf"{_ALONE}({_YEAR})\s?[-–]\s?({_YEAR})\b")
def _years(found: re.Match[str]) -> str:
    return f"{year(int(found[1]))} to {year(int(found[2]))}"


@_rule(r"(?<![\w.,/:])((?:1[1-9]|20)\d0)'?s\b|'(\d0)s\b")
def _decade(found: re.Match[str]) -> str:
    return decade(int(found[1] or found[2]))


@_rule(rf"\b({_any_of(BEFORE_YEARS)})([\s-]+)({_YEAR})\b(?![,.]?\d|\s*[%°]|\s+(?:{_any_of(UNITS)})\b)", re.IGNORECASE)
def _year_after(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{year(int(found[3]))}"


@_rule(rf"{_ALONE}((?:19|20)\d\d)(?=\s+(?:{_any_of(AFTER_YEARS)})\b|\)|[.,;?!]?$|[.,;?!]\s)")
def _year_alone(found: re.Match[str]) -> str:
    return year(int(found[1]))


# -- numbers -------------------------------------------------------------------------------------------------------


@_rule(rf"\b({_any_of(RULERS)})\s+([IVX]{{2,}}|[VX])\b")
def _ruler(found: re.Match[str]) -> str:
    return f"{found[1]} the {ordinal(roman(found[2]))}"


@_rule(rf"\b((?i:{_any_of(NUMBERED)}))\s+([IVX]+)\b")
def _numbered(found: re.Match[str]) -> str:
    return f"{found[1]} {cardinal(roman(found[2]))}"


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


@_rule(rf"(?<![\w.])({_NUMBER})\s?[-–]\s?(?=(?:{_NUMBER})(?!\s?-\d))")
def _range(found: re.Match[str]) -> str:
    return f"{found[1]} to "


@_rule(r"(?<![\w.)])[-−–](?=\d)")
def _minus(found: re.Match[str]) -> str:
    return "minus "


@_rule(rf"(?<![\w.])({_NUMBER})\s?({_any_of(UNITS)})(?![\w/²³])(\.(?=\s+[a-z]))?")
def _unit(found: re.Match[str]) -> str:
    return _counted(found[1], *UNITS[found[2]])


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


@_rule(rf"{_NUMBER}")
def _number(found: re.Match[str]) -> str:
    return f" {number(found[0])} "


@_rule(f"[{re.escape(''.join(SYMBOLS))}]")
def _symbol(found: re.Match[str]) -> str:
    return SYMBOLS[found[0]]


@_rule(r"\s+(?=[.,;:?!](?:\s|$))")
def _blank_before_mark(found: re.Match[str]) -> str:
    return ""
