"""English numbers as words, as an American reads them. num2words spells whole numbers."""

from __future__ import annotations

import re

from num2words import num2words

from wand.text.english_tables import MONEY, SIZES

# Longer numbers are read digit by digit.
LONGEST = 15


def cardinal(value: int) -> str:
    """A whole number, for example 342 as `three hundred forty two`."""
    return _plain(num2words(value))


def ordinal(value: int) -> str:
    """An ordinal number, for example 21 as `twenty first`."""
    return _plain(num2words(value, to="ordinal"))


def written_ordinal(text: str) -> str:
    """An ordinal as it is written, without its ending: ``1,000`` as `one thousandth`, very long ones by digits."""
    whole = text.replace(",", "")
    if len(whole) > LONGEST:
        return f"{digits(whole[:-1])} {ordinal(int(whole[-1]))}"
    return ordinal(int(whole))


def digits(text: str) -> str:
    """The digits of a text one by one; other characters are left out."""
    return " ".join(cardinal(int(digit)) for digit in text if digit.isdigit())


def number(text: str) -> str:
    """A number as it is written: ``1,234.5`` as `one thousand two hundred thirty four point five`, ``07`` by digits."""
    whole, _, decimals = text.replace(",", "").partition(".")
    by_digits = len(whole) > LONGEST or (len(whole) > 1 and whole[0] == "0")
    words = digits(whole) if by_digits else cardinal(int(whole))
    return f"{words} point {digits(decimals)}" if decimals else words


def counted(amount: str, one: str, many: str) -> str:
    """An amount and the name of what is counted, in the singular or plural."""
    return f"{number(amount)} {one if amount == '1' else many}"


def money(sign: str, amount: str, size: str | None) -> str:
    """Money: ``$``, ``5.50`` and no size, for example `million`, as `five dollars and fifty cents`."""
    one, many, small, smalls = MONEY[sign]
    if size:
        return f"{number(amount)} {SIZES.get(size.lower(), size.lower())} {many}"
    whole, _, rest = amount.partition(".")
    if len(rest) != 2 or not small:
        return counted(amount, one, many)
    cents = counted(str(int(rest)), small, smalls) if int(rest) else ""
    if whole == "0" and cents:
        return cents
    return counted(whole, one, many) + (f" and {cents}" if cents else "")


def money_range(sign: str, amount: str, size: str | None, to_amount: str, to_size: str | None) -> str:
    """A range of money. The sign is read once if the first amount is a plain number."""
    plain = not size and (to_size or not re.search(r"\.\d\d$", amount))
    return f"{number(amount) if plain else money(sign, amount, size)} to {money(sign, to_amount, to_size)}"


def year(value: int) -> str:
    """A year, for example 1905 as `nineteen oh five`."""
    century, rest = divmod(value, 100)
    if 2000 <= value <= 2009:
        return cardinal(value)
    return f"{cardinal(century)} {'hundred' if rest == 0 else two_digits(rest)}"


def two_digits(value: int) -> str:
    """A number below 100 after another, as in years and times: 5 as `oh five`."""
    return f"oh {cardinal(value)}" if value < 10 else cardinal(value)


def decade(value: int) -> str:
    """A decade, for example 1990 as `nineteen nineties` and 80 as `eighties`."""
    words = cardinal(value) if value < 100 else year(value)
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def fraction(upper: int, lower: int) -> str:
    """A fraction, for example 3 and 4 as `three quarters`."""
    one = {2: "half", 4: "quarter"}.get(lower) or ordinal(lower)
    many = "halves" if lower == 2 else f"{one}s"
    return f"{cardinal(upper)} {one if upper == 1 else many}"


def roman(numeral: str) -> int:
    """The value of a Roman numeral of the letters I, V and X."""
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in numeral.upper()]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


def _plain(words: str) -> str:
    return " ".join(word for word in re.split(r"[-,\s]+", words) if word != "and")
