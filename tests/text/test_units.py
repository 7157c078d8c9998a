"""Units of a text: they do not depend on how the text arrives, and are read as in the whole text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wand.text.front_end import phones
from wand.text.units import LARGEST, LEAST, TextUnits

WORDS = [
    "Hello", "a", "the", "of", "Mr.", "e.g.", "J.", "3.14", "no. 5", "said", '"yes"', "(so", "well)", "you", "U.S.",
    "March 3, 1999", "$5 million", "don't", "IV", "你好", "走，吧", "コーヒー", "e\u0301te\u0301", "\u1100\u1161",
    "x" * 70, "\u0928\u092e\u0938\u094d\u0924\u0947", "👩\u200d👧", "—", "...",
]  # fmt: skip
MARKS = [".", "!", "?", ";", "…", "...", "?!", '."', ".)", ",", ":", " —", "。", "？”", "", "", "", ""]
SEAMS = [" ", " ", " ", "", "\n\n", "  "]
texts = st.one_of(
    st.text(max_size=150),
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(MARKS), st.sampled_from(SEAMS)), max_size=60).map(
        lambda parts: "".join(word + mark + seam for word, mark, seam in parts)
    ),
    st.text(alphabet="ab .", max_size=300),
    st.text(alphabet="你好我a。，", max_size=200),
)


def units(parts: Sequence[str], first_limit: int = 40, limit: int = 100) -> list[str]:
    cutter = TextUnits(first_limit, limit)

    def given_so_far() -> Iterator[str]:
        while (unit := cutter.next()) is not None:
            yield unit

    made: list[str] = []
    for part in parts:
        cutter.add(part)
        made.extend(given_so_far())
    cutter.close()
    return [*made, *given_so_far()]


def size(text: str) -> int:
    return sum(3 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Yes. No! So it is; well.", ["Yes.", " No!", " So it is;", " well."], id="sentences"),
        pytest.param('Mr. A of the U.S. met J. R. Roe, e.g. at no. 5. "Go?" he said.',
                     ["Mr. A of the U.S. met J. R. Roe,", " e.g. at no. 5.", ' "Go?" he said.'], id="abbreviations"),
        pytest.param("Wait... what? Well… no… Yes", ["Wait... what?", " Well… no…", " Yes"], id="ellipses"),
        pytest.param("Yes, so it was in the morning, and then in the night: dark",
                     ["Yes, so it was in the morning,", " and then in the night:", " dark"], id="pauses"),
        pytest.param("He came here late on March 3, 1999, at noon", ["He came here late on March 3, 1999,", " at noon"],
                     id="dates"),
        pytest.param("这是一个很长很长的句子。好，我们走吧，今天",
                     ["这是一个很长很长的句子。", "好，我们走吧，", "今天"], id="Chinese"),
        pytest.param("这" * 60, ["这" * 13, "这" * 33, "这" * 14], id="Chinese without marks"),
        pytest.param("She lived in a small house near the edge of the old wood",
                     ["She lived in a small house near the edge", " of the old wood"], id="before small words"),
        pytest.param("We sold goods for around $5 million in 5 or 6 days",
                     ["We sold goods for around $5 million", " in 5 or 6 days"], id="numbers stay whole"),
        pytest.param("10" + " 10" * 59, ["10" + " 10" * 39, " 10" * 20], id="numbers only"),
        pytest.param("y" * 700, ["y" * 300, "y" * 300, "y" * 100], id="one word"),
        pytest.param("... — so. ... — No. ...", ["... — so. ... —", " No. ..."], id="marks between"),
        pytest.param(" ... ", [" ... "], id="marks alone"),
        pytest.param("  One.\n\n Two\tthree. ", ["  One.", "\n\n Two\tthree. "], id="white space"),
        pytest.param("", [], id="empty"),
    ],
)  # fmt: skip
def test_where_units_end(text: str, expected: list[str]) -> None:
    assert units([text]) == expected


@given(texts, st.data(), st.integers(1, 60), st.integers(1, 120))
@settings(max_examples=150)
def test_units_depend_on_the_text_alone(text: str, data: st.DataObject, first_limit: int, limit: int) -> None:
    whole = units([text], first_limit, limit)
    assert "".join(whole) == text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert units(parts, first_limit, limit) == whole
    assert units(list(text), first_limit, limit) == whole


@given(texts, st.integers(1, 60), st.integers(20, 120))
@settings(max_examples=100)
def test_units_have_something_to_say_and_end_in_time(text: str, first_limit: int, limit: int) -> None:
    made = units([text], first_limit, limit)
    assert len(made) <= 1 or all(any(letter.isalnum() for letter in unit) for unit in made)
    for unit in made:
        assert len(made) == 1 or not unicodedata.combining(unit.lstrip()[0])
        spoken = [word for word in unit.split() if any(letter.isalnum() for letter in word)]
        longest = max((size(word) for word in spoken), default=0)
        marks = size(unit) - sum(map(size, spoken))
        assert size(unit) <= LARGEST * max(first_limit, limit) + longest + marks


def test_what_is_kept_is_short() -> None:
    """A long text that arrives word by word goes out soon."""
    cutter, given_so_far = TextUnits(), 0
    for number in range(3000):
        cutter.add(f" word{'.' * (number % 50 == 0)} and")
        while (unit := cutter.next()) is not None:
            given_so_far += len(unit)
        assert 9 * number - given_so_far < 150


def test_words_are_plain_at_a_cut_and_small_words_come_after() -> None:
    text = "the house of the man who lived in the middle of the forest that was near the old river and went to it " * 20
    made = units([text])
    assert all(unit.split()[-1] not in ("the", "of", "who", "in", "that", "was", "and", "to") for unit in made[:-1])
    assert all(LEAST <= len(unit) <= 101 for unit in made[:-1])


STORY = """\
When the morning came, the old man who lived near the river went down to the boats, as he had done
for thirty years. "Have you seen my brother?" he asked the girl who was sitting on the wall. She had
not; nobody had seen him since the storm. Mr. Reed, who sold fish at the market on March 3, 1999,
said that it would cost him $3.50 to look for a man in such weather, and that he would rather stay
where it was warm. The two of them looked at the grey water for a long time without a word: there
was nothing to say. At 5:30 p.m. the light began to fade behind the hills of the U.S. army base, and
the first of the boats came home with its nets full of herring and its crew of four men who were too
tired to speak. What could he do? He thanked them and walked back along the beach — slowly, because
the stones were wet."""


def test_units_are_read_as_the_whole_text() -> None:
    made = units([STORY])
    assert len(made) > 15
    assert " ".join(phones(unit) for unit in made) == phones(STORY)


@pytest.mark.parametrize("limits", [(0, 100), (40, 0), (1.5, 100)])
def test_limits_are_checked(limits: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="limit"):
        TextUnits(*limits)
