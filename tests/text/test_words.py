"""Words as written, and their places in what a front end reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wand.text.front_end import FRONT_ENDS, phones, written_words
from wand.text.words import split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("He paid  $5, then left.", ["He", " paid", "  $5,", " then", " left."]),
        ("— so “it is” — he said …", ["— so", " “it", " is” —", " he", " said …"]),
        ("你好，世界！ Hello 「再」见", ["你", "好，", "世", "界！", " Hello 「", "再」", "见"]),
        ("コーヒー", ["コー", "ヒー"]),
        ("...", ["..."]),
        ("", [""]),
    ],
)
def test_words_are_split(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(st.text())
def test_words_give_the_text(text: str) -> None:
    words = split_words(text)
    assert "".join(words) == text
    assert all(any(letter.isalnum() for letter in word) for word in words[1:])


def pairs(text: str, front_end: str = "phones") -> list[tuple[str, str]]:
    """Each written word with what is spoken from its place to the next."""
    spoken = FRONT_ENDS[front_end](text)
    made: list[tuple[str, int]] = []
    for word, begin in zip(*written_words(text, spoken, front_end), strict=True):
        if begin is None:
            made[-1] = (made[-1][0] + word, made[-1][1])
        else:
            made.append((word, begin))
    ends = [begin for _, begin in made[1:]] + [len(spoken)]
    return [(word.strip(), spoken[begin:end].strip()) for (word, begin), end in zip(made, ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two dogs", [("two", "two"), ("dogs", "dogs")]),
        ("I have 25 of the dogs.",
         [("I", ""), ("have", ""), ("25", "twenty five"), ("of the", ""), ("dogs.", "dogs.")]),
        ("Dr. Smith paid $3.50 in all", [("Dr.", "doctor"), ("Smith", "Smith"), ("paid", "paid"),
                                         ("$3.50", "three dollars and fifty cents"), ("in", ""), ("all", "all")]),
        ("He left on March 3, 1999, at 5:30 p.m. sharp.",
         [("He", ""), ("left", "left"), ("on", ""), ("March", "march"), ("3,", "third,"),
          ("1999,", "nineteen ninety nine,"), ("at", ""), ("5:30", "five thirty"), ("p.m.", "P M"),
          ("sharp.", "sharp.")]),
    ],
)  # fmt: skip
def test_written_words_have_their_phones(text: str, expected: list[tuple[str, str]]) -> None:
    """An expansion is read as its words are; small words, which change in context, only have their place."""
    found = pairs(text)
    assert [word for word, _ in found] == [word for word, _ in expected]
    for (_, spoken), (_, same) in zip(found, expected, strict=True):
        assert spoken == phones(same) if same else spoken


def test_letters_are_their_words() -> None:
    text = "The 3rd  “one” 你好 is\nit — or not?"
    found = [word for word, _ in pairs(text, "letters")]
    assert found == ["The", "3rd", "“one”", "你", "好", "is", "it —", "or", "not?"]
    assert [spoken for _, spoken in pairs(text, "letters")] == [FRONT_ENDS["letters"](word) for word in found]
