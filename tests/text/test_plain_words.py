"""Plain words: texts that are read aloud alike are equal, and nothing that is spoken is dropped."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import CONVERTER_CLASSES
from whisper_normalizer.english import EnglishTextNormalizer

from wand.metrics.words import errors
from wand.text.plain_words import has_blanks, plain_words

WHISPER = EnglishTextNormalizer()


@pytest.mark.parametrize(
    "text",
    ["It's 3.5 km, isn't it?", "Mr. Smith's colour", "three hundred and forty two", "$5.50 and 20%", "hmm, I won't"],
)
def test_english_is_normalised_as_whisper_does(text: str) -> None:
    assert plain_words(text) == WHISPER(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("342 cats", "three hundred and forty two cats"),
        ("It\u2019s \u201cso\u201d", "it's so"),
        ("rock \u2018n\u2019 roll `now\u00b4", "rock 'n' roll now"),
        ("\ufb01nd the cafe\u0301", "find the caf\u00e9"),
        ("1.000.000 and 1,000,000", "1000000 and 1000000"),
        ("two (of them) left", "two of them left"),
        ("wait\u2026 no", "wait no"),
    ],
)
def test_english_texts_that_sound_the_same_are_equal(text: str, same: str) -> None:
    assert plain_words(text) == plain_words(same)


@pytest.mark.parametrize(
    ("text", "language", "plain"),
    [
        ("\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e\u0964", "hi",
         "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e"),
        ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0e04\u0e23\u0e31\u0e1a", "th",
         "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a"),
        ("\u4f60\u597d\uff0c\u4e16\u754c\uff01", "zh", "\u4f60\u597d\u4e16\u754c"),
        ("Zu\u0308rich, 1.000.000 Menschen!", "de", "z\u00fcrich eine million menschen"),
        ("3,5 und 1.000", "de", "drei komma f\u00fcnf und eintausend"),
        ("J\u2019ai 21 ans.", "fr", "j ai vingt et un ans"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442, 5 \u0440\u0430\u0437", "ru",
         "\u043f\u0440\u0438\u0432\u0435\u0442 \u043f\u044f\u0442\u044c \u0440\u0430\u0437"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "fa",
         "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645".replace("\u200c", "")),
        ("\u0967\u0968 \u092c\u093e\u0930", "hi", "\u0967\u0968 \u092c\u093e\u0930"),
    ],
)  # fmt: skip
def test_other_languages_keep_marks_and_spell_numbers(text: str, language: str, plain: str) -> None:
    assert plain_words(text, language) == plain


def test_a_wrong_vowel_sign_is_an_error() -> None:
    right, wrong = "\u0915\u093f", "\u0915\u0940"  # ki, kee
    assert errors(wrong, right, "hi") == (1, 2, 1, 1)
    assert errors("\u0e01\u0e31", "\u0e01\u0e34", "th")[:2] == (1, 2)


def test_composed_and_decomposed_accents_are_equal() -> None:
    text = "\u00e9t\u00e9 \u00e0 Zo\u00eb"
    assert errors(unicodedata.normalize("NFD", text), text, "fr")[0] == 0
    assert errors(unicodedata.normalize("NFD", text), text)[0] == 0


def test_languages_without_blanks_have_no_words() -> None:
    assert not has_blanks("zh")
    assert not has_blanks("cmn")
    assert has_blanks("en-us")
    assert errors("\u4f60 \u597d", "\u4f60\u597d\u3002", "zh") == (0, 2, 0, 0)


@given(st.text(max_size=60), st.sampled_from(["en", "de", "hi", "zh", "xx"]))
def test_any_text_has_plain_words(text: str, language: str) -> None:
    plain = plain_words(text, language)
    assert plain == " ".join(plain.split())
    assert all(any(letter.isalnum() for letter in word) for word in plain.split())


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("በ1999 ዓመት", "am"),  # num2words raises a TypeError
        ("999999999", "am"),  # never returns
        ("10000000000", "kn"),  # OverflowError
        ("1.404686", "hu"),  # KeyError
        ("13624809.0", "hu"),  # RecursionError
        ("0.0000001", "cs"),  # ValueError
        ("0.0000001", "cy"),  # IndexError
        ("0.0000001", "ar"),  # no words
    ],
)
def test_a_number_that_cannot_be_said_stays_as_it_is_written(text: str, language: str) -> None:
    digits = [letter for letter in text if letter.isdigit()]
    assert [letter for letter in plain_words(text, language) if letter.isdigit()] == digits


@given(
    st.sampled_from(sorted(CONVERTER_CLASSES)),
    st.integers(0, 10**15),
    st.one_of(st.none(), st.from_regex(r"[0-9]{1,9}", fullmatch=True)),
)
def test_every_number_has_plain_words_in_every_language(language: str, whole: int, decimals: str | None) -> None:
    assert plain_words(f"{whole}" if decimals is None else f"{whole}.{decimals}", language)


def test_numbers_of_any_length() -> None:
    assert plain_words("9" * 5000).replace(" ", "") == "9" * 5000
    assert plain_words("9" * 5000, "de") == "9" * 5000
