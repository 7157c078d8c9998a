"""Front ends and plain words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wand.demo.sentences import sentence
from wand.text.front_end import FRONT_ENDS, SYMBOLS, letters, number_words, phones, plain_words


def test_letters_are_lower_case_with_single_spaces():
    assert letters("  Hello\n WORLD. ") == "hello world."


def test_phones_keep_punctuation_and_read_numbers():
    assert phones("Hello, 2 worlds!") == phones("hello, two worlds!")
    assert phones("yes; no") == phones("yes, no")
    assert phones("Is it? yes.").count("?") == 1
    assert phones("") == "" == phones(" .. ")


def test_words_of_one_sound_have_the_same_phones():
    assert phones("see") == phones("sea") != phones("say")


def test_a_dot_inside_a_number_ends_no_phrase():
    assert "," not in phones("3.5 miles")
    assert not phones("3.5 miles").startswith(phones("3") + ".")


@pytest.mark.parametrize("front_end", list(FRONT_ENDS))
def test_front_ends_give_their_symbols_only(front_end):
    import random

    rng = random.Random(0)
    given_symbols = {s for _ in range(30) for s in FRONT_ENDS[front_end](sentence(rng))}
    assert given_symbols <= set(SYMBOLS[front_end])
    assert len(set(SYMBOLS[front_end])) == len(SYMBOLS[front_end])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (40, "forty"),
        (342, "three hundred and forty two"),
        (1001, "one thousand and one"),
        (9999, "nine thousand nine hundred and ninety nine"),
        (21_000_300, "twenty one million three hundred"),
        (5_000_000_007, "five billion and seven"),
    ],
)
def test_numbers_as_words(value, words):
    assert number_words(value) == words


@pytest.mark.parametrize("value", [-1, 10**12])
def test_a_number_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=f"got {value}"):
        number_words(value)


@given(st.text(max_size=60))
def test_plain_words_are_stable(text):
    plain = plain_words(text)
    assert plain_words(plain) == plain
    assert plain == " ".join(plain.split())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("It's 3.5 km, isn't it?", "it's three point five km isn't it"),
        ("'quoted' words", "quoted words"),
        ("1234567890123", "one two three four five six seven eight nine zero one two three"),
        ("\u2026", ""),
    ],
)
def test_plain_words(text, plain):
    assert plain_words(text) == plain
