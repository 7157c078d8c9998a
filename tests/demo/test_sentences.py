import random
import re

import pytest

from wand.demo.sentences import number_words, sentence


def test_same_state_same_sentences() -> None:
    one, two = random.Random(5), random.Random(5)
    assert [sentence(one) for _ in range(50)] == [sentence(two) for _ in range(50)]


def test_letters_and_variety() -> None:
    rng = random.Random(0)
    sentences = [sentence(rng) for _ in range(5000)]
    assert all(re.fullmatch(r"[a-z' ,.?]+[.?]", text) for text in sentences)
    assert all("  " not in text and " ," not in text for text in sentences)
    assert len(set(sentences)) > 4900
    assert len({word for text in sentences for word in re.findall(r"[a-z']+", text)}) > 300
    assert 0.1 < sum(text.endswith("?") for text in sentences) / len(sentences) < 0.4


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (300, "three hundred"),
        (342, "three hundred and forty two"),
        (1005, "one thousand and five"),
        (9999, "nine thousand nine hundred and ninety nine"),
    ],
)
def test_number_words(value: int, words: str) -> None:
    assert number_words(value) == words


def test_number_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="got 10000"):
        number_words(10000)
