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
    # ranges
    ('10%-15%, 10–15%, 10% – 15%, 10%-15',
     'ten percent to fifteen percent, ten to fifteen percent, ten percent to fifteen percent, ten percent to fifteen'),
    ('10\u201115 km', 'ten to fifteen kilometers'),
    ('5km-10km, -5°C–10°C',
     'five kilometers to ten kilometers, minus five degrees Celsius to ten degrees Celsius'),
    ('the 5th–7th rows', 'the fifth to seventh rows'),
    ('500-1000 km', 'five hundred to one thousand kilometers'),
    ('½-1 cup, 1/2-3/4 inch', 'one half to one cup, one half to three quarters inch'),
    ('2:30-3:00', "two thirty to three o'clock"),
    ('2:30–3:00 pm, 2:30-3, 9-10:30',
     'two thirty to three P M, two thirty to three, nine to ten thirty'),
    ('9am-5pm, 9 a.m. – 5:30 p.m.', 'nine A M to five P M, nine A M to five thirty P M.'),
    ('14:00-16:00', 'fourteen hundred to sixteen hundred'),
    ('John 3:16-18', 'John three sixteen to eighteen'),
    ('At 2:30 - 3 people came.', 'At two thirty - three people came.'),
    ('$5-10, $5-$10, $10–15 million', 'five to ten dollars, five to ten dollars, ten to fifteen million dollars'),
    ('$10 million–$15 million', 'ten million dollars to fifteen million dollars'),
    ('$0.99-1.50', 'ninety nine cents to one dollar and fifty cents'),
    ('$5k-10k', 'five thousand dollars to ten thousand dollars'),
    ('a $5-million deal', 'a five million dollars deal'),
    ('5-10€, 5€–10€, 5–10 million €',
     'five to ten euros, five to ten euros, five to ten million euros'),
    ('-$5 and -5€', 'minus five dollars and minus five euros'),
    ('Nov. 25–27, 2026', 'November twenty fifth to twenty seventh, twenty twenty six'),
    ('1914–18, 1914-1918, 2026-11',
     'nineteen fourteen to eighteen, nineteen fourteen to nineteen eighteen, '
     'two thousand twenty six to eleven'),
    # words like months, days, titles and numerals
    ('They march 5 miles.', 'They march five miles.'),
    ('may 10 people come', 'may ten people come'),
    ('On March 5 and MAY 5, june 5 and Nov 5',
     'On March fifth and May fifth, June fifth and November fifth'),
    ('they march 1950 miles in March 1950, Nov 1950',
     'they march one thousand nine hundred fifty miles in March nineteen fifty, Nov nineteen fifty'),
    ('In March 10% left. In May 10 million came.', 'In March ten percent left. In May ten million came.'),
    ('The Sun. It is hot.', 'The Sun. It is hot.'),
    ('He Sat. Then he Wed. Now', 'He Sat. Then he Wed. Now'),
    ('Sun., Sat. 5 May, Wed. Nov. 25, on Sun. at noon',
     'Sunday, Saturday the fifth of May, Wednesday November twenty fifth, on Sunday at noon'),
    ('Mon.–Fri. 9-5, Sat-Sun.', 'Monday to Friday nine to five, Saturday to Sunday.'),
    ('ST. PAUL and gen. Smith', 'saint PAUL and general Smith'),
    ('We met Fri. It rained. Come Tue.', 'We met Friday. It rained. Come Tuesday.'),
    ('He is 6 ft. He runs.', 'He is six feet. He runs.'),
    ('the part I like, Part I, part II', 'the part I like, Part one, part two'),
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
