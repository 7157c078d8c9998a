"""Numbers, dates, times and money, as digits or as words."""

from __future__ import annotations

import random
from collections.abc import Callable

from wand.text.english import spell
from wand.text.english_numbers import cardinal
from wand.text.english_tables import MONTHS


def number(rng: random.Random) -> str:
    """A whole number or one with decimals: ``4,310``, ``2.5``."""
    value = rng.randint(2, 10 ** rng.randint(1, 6))
    if rng.random() < 0.15:
        return f"{value % 1000}.{rng.randint(1, 99)}"
    return f"{value:,}" if value >= 1000 and rng.random() < 0.7 else str(value)


def count(rng: random.Random) -> str:
    """A number below a hundred, for the most part small."""
    return str(rng.randint(2, rng.choice((12, 20, 99))))


def money(rng: random.Random) -> str:
    """An amount: ``$12.50``, ``30 cents``, ``2 million dollars``."""
    return rng.choice(
        (
            f"${rng.randint(1, 10 ** rng.randint(1, 4)):,}",
            f"${rng.randint(1, 200)}.{rng.randint(1, 99):02d}",
            f"{rng.randint(2, 99)} cents",
            f"{rng.randint(2, 900)} {rng.choice(('dollars', 'euros', 'pounds', 'bucks', 'million dollars'))}",
        )
    )


def clock(rng: random.Random) -> str:
    """A time of day: ``7:45 a.m.``, ``9 o'clock``, ``16:20``."""
    hour, minute = rng.randint(1, 12), rng.choice((0, 5, 10, 15, 20, 25, 30, 40, 45, 50, 55, rng.randint(1, 59)))
    half = rng.choice((" AM", " PM", " in the morning", " at night", ""))
    return rng.choice(
        (f"{hour}:{minute:02d}{half}", f"{hour} o'clock", f"{hour + 11}:{minute:02d}", f"half past {hour}")
    )


def year(rng: random.Random) -> str:
    """A year between 1500 and 2040."""
    return str(rng.randint(1500 if rng.random() < 0.3 else 1900, 2040))


def date(rng: random.Random) -> str:
    """A date: ``May 3``, ``the 3rd of May``, ``May 3, 1998``."""
    month, day = rng.choice(MONTHS), rng.randint(1, 28)
    return rng.choice((f"{month} {day}", f"the {ordinal(rng)} of {month}", f"{month} {day}, {year(rng)}"))


def ordinal(rng: random.Random) -> str:
    """An ordinal number: ``22nd``."""
    value = rng.randint(1, 31)
    ending = "th" if value in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{ending}"


def digits(rng: random.Random) -> str:
    """Digits that are read one by one: ``four oh seven``."""
    return " ".join(rng.choice((cardinal(rng.randint(1, 9)),) * 8 + ("oh", "zero")) for _ in range(rng.randint(3, 7)))


def percent(rng: random.Random) -> str:
    """A percentage: ``40%``, ``12 percent``."""
    return f"{rng.randint(1, 99)}{rng.choice(('%', ' percent'))}"


def in_words(figure: Callable[[random.Random], str]) -> Callable[[random.Random], str]:
    """A figure that is spelled out in half of the draws."""

    def draw(rng: random.Random) -> str:
        written = figure(rng)
        return spell(written) if rng.random() < 0.5 else written

    return draw


FIGURES: dict[str, Callable[[random.Random], str]] = {
    **{f.__name__: in_words(f) for f in (number, count, money, year, date, ordinal, percent)},
    "age": in_words(count),
    "clock": clock,
    "digits": digits,
}
