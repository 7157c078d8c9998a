"""Sentences of long texts: where they end, how they share parts, and that nothing is lost."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wand.text.sentences import split_sentences

WORDS = [
    "Hello",
    "a",
    "Mr.",
    "e.g.",
    "J.",
    "3.14",
    "no. 5",
    "said",
    '"yes"',
    "(so",
    "well)",
    "你好",
    "走，吧",
    "x" * 30,
]
MARKS = [".", "!", "?", ";", "…", "...", "?!", '."', ".)", ",", ":", " —", "。", "？”", "！", ""]
texts = st.one_of(
    st.text(max_size=200),
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(MARKS)), max_size=40).map(
        lambda pairs: " ".join(word + mark for word, mark in pairs)
    ),
)
limits = st.one_of(st.none(), st.integers(10, 120))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        pytest.param("One. Two! Three; four… Five?", ["One.", "Two!", "Three;", "four…", "Five?"], id="marks"),
        pytest.param("Really?! No... Yes.", ["Really?!", "No...", "Yes."], id="several marks"),
        pytest.param("你好。走吗？走！好；行", ["你好。", "走吗？", "走！", "好；", "行"], id="no blanks"),
        pytest.param("他说：“走吧。”她走了。", ["他说：“走吧。”", "她走了。"], id="wide quotes"),
        pytest.param('"Go." (So.) [So!] “Yes.” Yes', ['"Go."', "(So.)", "[So!]", "“Yes.”", "Yes"], id="closing"),
        pytest.param('"Really?" he asked. "Yes!" She', ['"Really?" he asked.', '"Yes!"', "She"], id="speech goes on"),
        pytest.param("Mr. A met Dr. Who vs. St. Paul etc. in May.", None, id="abbreviations"),
        pytest.param("(Mr. Smith) and “Dr. Who” left.", None, id="abbreviations in brackets"),
        pytest.param("J. R. R. Tolkien, J.-P. Sartre, e.g. in the U.S. of old, i.e. then.", None, id="initials"),
        pytest.param("Pi is 3.14, version 2.0.1 at wand.io/a?b is out.", None, id="inside words"),
        pytest.param("See no. 5 and Fig. 3. I said no. Then I left.",
                     ["See no. 5 and Fig. 3.", "I said no.", "Then I left."], id="before numbers"),
        pytest.param("In 1999. Then", ["In 1999.", "Then"], id="after numbers"),
        pytest.param("... Yes. ... — No. ...", ["... Yes.", "... — No. ..."], id="marks alone"),
        pytest.param("  One.\n\n Two\tthree. ", ["One.", "Two three."], id="white space"),
        pytest.param("...", ["..."], id="nothing to say"),
        pytest.param(" \n", [], id="empty"),
    ],
)  # fmt: skip
def test_where_sentences_end(text, sentences):
    assert split_sentences(text, limit=None) == ([text] if sentences is None else sentences)


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        pytest.param("Yes. No. Maybe so. Well.", 12, ["Yes. No.", "Maybe so.", "Well."], id="short ones share"),
        pytest.param("Yes. No. Maybe so. Well.", 200, ["Yes. No. Maybe so. Well."], id="all fit"),
        pytest.param("one two, three four, five, six", 20, ["one two, three four,", "five, six"], id="pauses"),
        pytest.param("one two three four five six", 20, ["one two three", "four five six"], id="words"),
        pytest.param("1,000,000 and 2,000,000", 15, ["1,000,000", "and 2,000,000"], id="commas in numbers"),
        pytest.param("abcdefghijklmnopqrstuvwx", 12, ["abcdefghijkl", "mnopqrstuvwx"], id="letters"),
        pytest.param("你好。我很好，他也好。", 18, ["你好。", "我很好，", "他也好。"], id="wide letters count three"),
        pytest.param("你好。我很好。", 21, ["你好。我很好。"], id="no blank between wide letters"),
    ],
)
def test_parts_within_a_limit(text, limit, parts):
    assert split_sentences(text, limit) == parts


def size(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(letter) in ("W", "F") for letter in text)
    return len(text) + 2 * wide


@given(texts, limits)
def test_nothing_is_lost_and_nothing_is_too_long(text, limit):
    parts = split_sentences(text, limit)
    assert "".join(" ".join(parts).split()) == "".join(text.split())
    for part in parts:
        assert part == " ".join(part.split()) != ""
        assert limit is None or size(part) <= limit
        assert split_sentences(part, limit) == [part]  # and it stays


@given(st.text(alphabet="ab .,!?", max_size=200), limits)
def test_words_stay_whole_where_they_fit(text, limit):
    text = " ".join(word[:10] for word in text.split())
    assert " ".join(split_sentences(text, limit)).split() == text.split()


@given(st.lists(st.integers(2, 30), max_size=12), st.integers(30, 60))
def test_no_fewer_parts_would_hold_the_sentences(lengths, limit):
    """Against the fewest parts, found by trying every last part."""
    sentences = ["x" * (length - 1) + "!" for length in lengths]
    fewest = [0]
    for end in range(1, len(sentences) + 1):
        fits = [start for start in range(end) if len(" ".join(sentences[start:end])) <= limit]
        fewest.append(1 + min(fewest[start] for start in fits))
    assert len(split_sentences(" ".join(sentences), limit)) == fewest[-1]


def test_a_limit_too_small_is_refused():
    with pytest.raises(ValueError, match="limit must be 10 letters or more, got 9"):
        split_sentences("Hello.", limit=9)
