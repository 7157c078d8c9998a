"""The table of cases: how an American reads numbers, abbreviations and symbols."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from wand.text.english import spell
from wand.text.english_numbers import cardinal, number, ordinal, roman, year

# fmt: off
CASES = [
    ('Mr. Smith met Dr. Who vs. St. Paul at 5 Main St. today',
     'mister Smith met doctor Who versus saint Paul at five Main street today'),
    ('He lives on Elm St.', 'He lives on Elm street.'),
    ('Mr Smith and mr. Brown', 'mister Smith and mister Brown'),
    ('$5.50, $1 and $0.99', 'five dollars and fifty cents, one dollar and ninety nine cents'),
    ('$1.5 million or $5k', 'one point five million dollars or five thousand dollars'),
    ('5€, £3.01, ¥500', 'five euros, three pounds and one penny, five hundred yen'),
    ('3:30 pm, 3:05 a.m., 15:00', 'three thirty P M, three oh five A M, fifteen hundred'),
    ('At 3:00 it began.', "At three o'clock it began."),
    ('It is 10 a.m. It is early.', 'It is ten A M. It is early.'),
    ('16:9', 'sixteen to nine'),
    ('Nov. 25, 2026', 'November twenty fifth, twenty twenty six'),
    ('25 November 2026', 'the twenty fifth of November, twenty twenty six'),
    ('the 25th of November', 'the twenty fifth of November'),
    ('May 5 was a Sunday', 'May fifth was a Sunday'),
    ('May I?', 'May I?'),
    ('2026-11-25', 'November twenty fifth, twenty twenty six'),
    ('11/25/2026, 25/11/2026', 'November twenty fifth, twenty twenty six, November twenty fifth, twenty twenty six'),
    ('in 1999, by 2005, in 1905 and 1900.',
     'in nineteen ninety nine, by two thousand five, in nineteen oh five and nineteen hundred.'),
    ('2010 was good', 'twenty ten was good'),
    ('1066 people', 'one thousand sixty six people'),
    ('in 1500 m', 'in one thousand five hundred meters'),
    ("the 1990s and '80s", 'the nineteen nineties and eighties'),
    ('1914–1918', 'nineteen fourteen to nineteen eighteen'),
    ('the 1st, 2nd, 23rd and 1,000th', 'the first, second, twenty third and one thousandth'),
    ('½ cup, 2½ cups', 'one half cup, two and a half cups'),
    ('3/4 of it, 2 3/4, 24/7, 9/11', 'three quarters of it, two and three quarters, twenty four seven, nine eleven'),
    ('5 km, 1 km, 60 mph, 5GB', 'five kilometers, one kilometer, sixty miles per hour, five gigabytes'),
    ('-20°C and 98.6 °F', 'minus twenty degrees Celsius and ninety eight point six degrees Fahrenheit'),
    ('2 m², 100%', 'two square meters, one hundred percent'),
    ('5 ft. tall', 'five feet tall'),
    ('pages 3-4', 'pages three to four'),
    ('555-1234', 'five five five one two three four'),
    ('+1 555 123 4567', 'plus one five five five one two three four five six seven'),
    ('1,234,567.89', 'one million two hundred thirty four thousand five hundred sixty seven point eight nine'),
    ('007', 'zero zero seven'),
    ('0', 'zero'),
    ('12345678901234567890',
     'one two three four five six seven eight nine zero one two three four five six seven eight nine zero'),
    ('Henry VIII and Louis XIV', 'Henry the eighth and Louis the fourteenth'),
    ('World War II, Chapter IV', 'World War two, Chapter four'),
    ('I am here', 'I am here'),
    ('R&D, A & B, C++', 'R and D, A and B, C plus plus'),
    ('x = 3', 'x equals three'),
    ('me@x.com', 'me at x dot com'),
    ('www.wand.io', 'www dot wand dot io'),
    ('version 2.0.1', 'version two point zero point one'),
    ('#5 and #tag', 'number five and hashtag tag'),
    ('No. 5 is no. 6. He said no.', 'number five is number six. He said no.'),
    ('Fig. 3, pp. 3-4', 'figure three, pages three to four'),
    ('U.S. Army in the U.S.', 'U S Army in the U S.'),
    ('e.g. this, i.e. that, etc.', 'for example this, that is that, et cetera.'),
    ('Acme Inc. He left.', 'Acme incorporated. He left.'),
    ('the sun. It shone. He sat. He rose.', 'the sun. It shone. He sat. He rose.'),
    ('a 2-year-old, COVID-19', 'a two year-old, COVID nineteen'),
    ('the end.Then he', 'the end. Then he'),
]
# fmt: on


@pytest.mark.parametrize(("text", "words"), CASES)
def test_english_is_read_as_a_native_reads_it(text: str, words: str) -> None:
    assert spell(text) == words


@given(st.integers(0, 10**15 - 1))
def test_every_number_is_read_as_num2words_spells_it(value: int) -> None:
    spelled = num2words(value).replace("-", " ").replace(",", "").replace(" and ", " ")
    assert cardinal(value) == number(str(value)) == number(f"{value:,}") == spelled


@pytest.mark.parametrize(
    ("value", "words"), [(1, "first"), (12, "twelfth"), (21, "twenty first"), (100, "one hundredth")]
)
def test_ordinals(value: int, words: str) -> None:
    assert ordinal(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(1066, "ten sixty six"), (1900, "nineteen hundred"), (1905, "nineteen oh five"), (2000, "two thousand"),
     (2009, "two thousand nine"), (2010, "twenty ten"), (2026, "twenty twenty six")],
)  # fmt: skip
def test_years(value: int, words: str) -> None:
    assert year(value) == words


@pytest.mark.parametrize(("numeral", "value"), [("II", 2), ("IV", 4), ("IX", 9), ("XIV", 14), ("XXXIX", 39)])
def test_roman_numerals(numeral: str, value: int) -> None:
    assert roman(numeral) == value


@pytest.mark.parametrize("length", [16, 400, 5000])
def test_long_numbers_are_read_by_digits(length: int) -> None:
    ones = " ".join(["one"] * length)
    assert spell("1" * length) == ones
    assert spell("1" * length + "th") == ones[:-3] + "first"
    assert spell("1" * length + " 1/2") == f"{ones} and a half"
    assert spell("1" * length + " 24/7") == f"{ones} twenty four seven"
    assert spell("1" * length + "½ km") == f"{ones} and a half km"
    assert spell("$" + "1" * length) == f"{ones} dollars"


@given(st.text("0123456789.,:;/-–%$€°½ '#thkmapMayVX", max_size=40))
def test_any_run_of_numbers_and_signs_can_be_read(text: str) -> None:
    assert spell(text) == " ".join(spell(text).split())


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    assert spell(text) == " ".join(spell(text).split())
