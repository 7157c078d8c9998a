"""The alignment of a long text against counts made by hand and by a slow edit distance."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.metrics.test_words import distance, words
from wand.metrics.edits import edits, parts_by_time
from wand.metrics.words import errors

SENTENCES = [
    "the bus was late again",
    "nobody knew the reason",
    "young sailors sang loudly",
    "a yellow umbrella broke",
    "my sister laughed at me",
    "we walked home in rain",
]
TEXT = " ".join(SENTENCES)


@given(words, st.lists(words, min_size=1, max_size=4))
def test_errors_of_the_parts_add_up_to_those_of_the_whole(heard, parts):
    by_part = edits(heard, parts).by_part()
    wrong, letters, _, _ = errors(heard, " ".join(parts))
    assert sum(count for count, _ in by_part) == wrong
    assert sum(size for _, size in by_part) == letters


@given(words, st.lists(words, min_size=1, max_size=4))
def test_the_parts_share_one_alignment(heard, parts):
    """The transcript can be cut so that every part has the errors of its piece, by the slow distance."""
    pieces = [part + " " * (i + 1 < len(parts)) for i, part in enumerate(parts)]
    cuts = {0}
    for piece, (wrong, _) in zip(pieces, edits(heard, parts).by_part(), strict=True):
        cuts = {b for a in cuts for b in range(a, len(heard) + 1) if distance(piece, heard[a:b]) == wrong}
    assert len(heard) in cuts


def test_minutes_of_speech_are_aligned():
    """A text of 20 minutes, one letter of each part wrong: the slow path would hold 400 million numbers."""
    parts = [f"part {'abcdefghij'[i % 10]} of a long text is here" for i in range(600)]
    heard = " ".join(part.replace("long", "lonk") for part in parts)
    assert [wrong for wrong, _ in edits(heard, parts).by_part()] == [1] * 600


def test_errors_are_found_in_the_part_they_are_in():
    parts = ["red fox plays", "cool wind sky", "green trees"]
    assert [count for count, _ in edits("red fox plays cool wint sky green trees", parts).by_part()] == [0, 1, 0]
    assert [count for count, _ in edits("red fox plays", parts).by_part()] == [0 + 1, 14, 11]
    assert [count for count, _ in edits("", parts).by_part()] == [14, 14, 11]
    assert [count for count, _ in edits("red fox plays cool wind sky green trees nice", parts).by_part()] == [0, 0, 5]


def test_a_number_may_begin_where_another_ends():
    """Without the full stop, the transcript has one number where the text has two."""
    parts = ["he was fifty.", "three men left.", "it was 20."]
    assert edits("he was fifty three men left it was twenty", parts).by_part() == [(0, 8), (0, 11), (0, 9)]
    assert edits("he was fifty three men lefd it was twenty", parts).by_part() == [(0, 8), (1, 11), (0, 9)]


def test_parts_without_words_have_no_letters():
    assert edits("red fax cool", ["", "red fox", "...", "cool", "?"]).by_part() == [
        (0, 0),
        (1, 8),
        (0, 0),
        (0, 4),
        (0, 0),
    ]
    with pytest.raises(ValueError, match="no words"):
        edits("heard", ["", "..."]).by_part()


@given(words, words)
def test_errors_of_the_thirds_add_up_to_those_of_the_whole(heard, text):
    by_third = edits(heard, [text]).by_third()
    assert (sum(wrong for wrong, _ in by_third), sum(size for _, size in by_third)) == errors(heard, text)[:2]


def test_thirds_have_the_same_number_of_words():
    assert edits("", ["our day", "new cats sat", "down"]).by_third() == [(8, 8), (9, 9), (8, 8)]
    assert edits("our dog new cats sat dawn", ["our day new cats sat down"]).by_third() == [(2, 8), (0, 9), (1, 8)]
    assert edits("一二三四五七", ["一二三", "四五六"], "zh").by_third() == [(0, 2), (0, 2), (1, 2)]
    assert edits("a", ["a"]).by_third() == [(0, 1), (0, 0), (0, 0)]


def test_words_are_grouped_by_their_time():
    said = ["We", "saw", "42", "dogs", ",", "and", "left"]
    assert parts_by_time(said, [0.1, 9.9, 10.0, 12.0, 9.0, 31.0, 39.0]) == ["We saw", "42 dogs ,", "", "and left"]
    assert parts_by_time([], []) == []
    parts = parts_by_time(said, [0.1, 9.9, 10.0, 12.0, 9.0, 31.0, 39.0])
    assert edits("we saw forty two dogs and loft", parts).by_part() == [(0, 7), (0, 8), (0, 0), (1, 8)]


def test_nothing_is_missing_in_a_good_transcript():
    found = edits(TEXT.replace("sang", "sank").replace("yellow", "yelow"), SENTENCES)
    assert found.missing() == []
    assert found.longest_skip().symbols == 1
    assert edits(TEXT, SENTENCES).longest_skip() == edits(TEXT, SENTENCES).longest_insertion()
    assert edits(TEXT, SENTENCES).longest_skip().part is None


@pytest.mark.parametrize("gone", range(len(SENTENCES)))
def test_a_sentence_that_was_not_spoken_is_missing(gone):
    found = edits(" ".join(SENTENCES[:gone] + SENTENCES[gone + 1 :]), SENTENCES)
    assert found.missing() == [gone]
    skip = found.longest_skip()
    assert skip.symbols == len(SENTENCES[gone]) + 1
    assert skip.part in (gone, gone - 1)  # the blank before it may be skipped instead of the one after it
    assert SENTENCES[gone][2:-2] in skip.text
    assert found.longest_insertion().symbols == 0


def test_half_a_sentence_is_not_missing_and_less_is():
    assert edits(TEXT.replace("sailors ", ""), SENTENCES).missing() == []
    assert edits(TEXT.replace("sailors sang loudly ", ""), SENTENCES).missing() == [2]


@pytest.mark.parametrize("times", [1, 4])
def test_a_loop_is_an_insertion(times):
    loop = "young sailors sang " * times
    found = edits(TEXT.replace("young sailors sang ", "young sailors sang " + loop), SENTENCES)
    insertion = found.longest_insertion()
    assert insertion.symbols == len(loop)
    assert insertion.part in (1, 2)
    assert found.missing() == []
    assert found.longest_skip().symbols == 0


def test_letters_that_are_equal_by_chance_do_not_cut_a_run():
    """One letter of the skipped words is heard."""
    skip = edits("the bus was late e nobody knew", ["the bus was late this morning and nobody knew"]).longest_skip()
    assert skip.symbols == len("this morning and ") - 2
    assert edits("", ["our day"]).longest_skip().symbols == 7


def test_nothing_heard_misses_everything():
    found = edits("", [*SENTENCES, "..."])
    assert found.missing() == [0, 1, 2, 3, 4, 5]
    assert found.longest_skip().symbols == len(TEXT)


def test_half_an_hour_of_speech_is_aligned():
    """30,000 letters, of which one sentence is skipped and one is said twice."""
    draws = random.Random(0)
    vocabulary = ["".join(draws.choices("abcdefghijklmnoprstuvw", k=draws.randint(3, 9))) for _ in range(900)]
    sentences = [" ".join(draws.choices(vocabulary, k=10)) for _ in range(460)]
    assert len(" ".join(sentences)) > 30_000
    heard = " ".join([*sentences[:100], *sentences[101:301], *sentences[300:]])
    found = edits(heard, sentences)
    assert found.missing() == [100]
    assert found.longest_skip().symbols == len(sentences[100]) + 1
    assert found.longest_insertion().symbols == len(sentences[300]) + 1
    assert [wrong for wrong, _ in found.by_third()] == [len(sentences[100]) + 1, len(sentences[300]) + 1, 0]
