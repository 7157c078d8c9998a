"""Front ends: marks, characters, languages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wand.demo.sentences import sentence
from wand.text.characters import check_scripts
from wand.text.espeak import phonemes
from wand.text.front_end import _MARK, FRONT_ENDS, SYMBOLS, letters, phones


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
    ("text", "marks"),
    [
        ('she asked, "are you sure?"', ",?"),
        ("she asked, \u201care you sure?\u201d", ",?"),
        ('"stop!" he said.', "!."),
        ("(is it?) yes [no!]", "?!"),
        ("\u2018go.\u2019 \u00abso?\u00bb", ".?"),
        ("wait\u2026 what", ","),
        ("wait... what", ","),
        ("wait...what", ","),
        ("Wait... What", "."),
        ("so\u2026", "."),
        ("yes\u2014no", ","),
        ("yes \u2013 no", ","),
        ("yes - no", ","),
        ("yes--no", ","),
        ("well-known", ""),
        ("Who?No", "?"),
        ("one,two", ","),
        ("Really?! Yes", "?"),
        ("go; stop: end.", ",,."),
        ("Mr. Smith left.", "."),
        ("J. R. R. Tolkien wrote. So do I. Yes.", "..."),
        ("see wand.io, version 2.0.1", ","),
        ("What\u2026 ?", "?"),
    ],
)
def test_marks_are_kept(text: str, marks: str) -> None:
    assert "".join(symbol for symbol in phones(text) if symbol in ",.?!") == marks


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("cafe\u0301 nai\u0308ve", "caf\u00e9 na\u00efve"),
        ("half\u200bway to the co\u00adast\ufeff", "halfway to the coast"),
        ("\ufb01nd a\u00a0\uff42\uff4f\uff58", "find a box"),
        ("don\u2019t", "don't"),
        ("one\x00two\x07 three", "one two three"),
        ("line\u2028line\x0cline", "line line line"),
        ("\u202ago\u202c", "go"),
    ],
)
def test_texts_that_look_the_same_are_spoken_the_same(text: str, same: str) -> None:
    assert phones(text) == phones(same)
    assert letters(text) == letters(same)


@pytest.mark.parametrize("text", ["a. 5", "1. 2", "x\n\ny", "No. 5 is no. 6"])
def test_the_last_character_is_spoken(text: str) -> None:
    # espeak-ng loses a last clause of one character.
    assert len(phonemes([text])[0].split()) == len(text.replace(".", " ").split())


def test_nothing_after_a_zero_byte_is_lost() -> None:
    assert phonemes(["one\x00two"]) == phonemes(["one two"])
    assert phonemes(["one \ud800 two"])[0].startswith(phonemes(["one"])[0])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\u4f60\u597d", "Chinese"),
        ("\u3053\u3093", "Japanese"),
        ("\u0645\u0631\u062d\u0628\u0627", "Arabic"),
        ("hello \u0928\u092e\u0938\u094d\u0924\u0947 friend", "Devanagari"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "Cyrillic"),
        ("\u0395\u03bb\u03bb\u03ac\u03b4\u03b1", "Greek"),
        ("\ud55c\uad6d", "Korean"),
        ("\u0e2a\u0e27\u0e31", "Thai"),
        ("\u1200\u1201", "Ethiopic"),
        ("\u13a0\u13a1", "Cherokee"),
    ],
)
def test_letters_that_the_language_does_not_have_are_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} letters .* front end for en-us cannot read"):
        phones(text)


def test_other_languages_are_read_in_their_letters() -> None:
    assert phones("\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "ru").endswith("!")
    assert phones("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "cmn").count(",") == 1
    assert phones("\u0928\u092e\u0938\u094d\u0924\u0947\u0964", "hi").endswith(".")
    # espeak-ng marks foreign words with flags such as (en); they are no phones.
    assert "(" not in phones("Hallo Computer, das Meeting ist heute.", "de")
    with pytest.raises(ValueError, match="Cyrillic letters"):
        phones("\u043c\u0438\u0440", "de")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ba", "\u0431\u0430\u0448"),
        ("cv", "\u0447\u0103\u0432"),
        ("nog", "\u043d\u043e\u0433"),
        ("hyw", "\u0561\u0562"),
        ("shn", "\u1010\u1086\u1038"),
        ("chr", "\u13e3\u13b3"),
    ],
)
def test_the_script_of_a_language_is_known(language: str, text: str) -> None:
    check_scripts(text, language)
    with pytest.raises(ValueError, match="cannot read"):
        check_scripts(text, "de")


@given(st.lists(st.sampled_from(("!", "?", ".", ",", "\u3002", "a", "1", " ", '"', "-")), max_size=12))
def test_marks_are_found_as_without_the_rule_that_saves_time(parts: list[str]) -> None:
    text = "".join(parts)
    plain = re.compile(re.sub(r"\(\?<!\[[^\]]*\]\)|(?<=\+)\+", "", _MARK.pattern), re.VERBOSE)
    assert plain.pattern != _MARK.pattern
    assert [found.span() for found in _MARK.finditer(text)] == [found.span() for found in plain.finditer(text)]


def test_a_single_greek_letter_is_a_symbol() -> None:
    assert phones("the angle \u03b1.") == phones("the angle alpha.")


@pytest.mark.parametrize("seed", range(3))
def test_the_demo_is_spoken_as_espeak_reads_it(seed: int) -> None:
    import random

    rng = random.Random(seed)
    for text in [sentence(rng) for _ in range(30)]:
        parts = [part for part in re.split(r"[.,?!;:]+(?=\s|$)", text) if part]
        said = "".join(symbol for symbol in phones(text) if symbol not in ",.?!")
        assert said == " ".join(phonemes(parts))
