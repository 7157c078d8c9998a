"""Error rates against counts made by hand and by a slow edit distance."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.metrics import ErrorRates
from wand.metrics.words import errors


def distance(a, b) -> int:
    @cache
    def upto(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(upto(i - 1, j) + 1, upto(i, j - 1) + 1, upto(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return upto(len(a), len(b))


words = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=5).map(" ".join)


@given(words, words)
def test_errors_are_edit_distances(heard, text):
    assert errors(heard, text) == (
        distance(heard, text),
        len(text),
        distance(tuple(heard.split()), tuple(text.split())),
        len(text.split()),
    )


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ("forty two apples", "42 apples."),
        ("it's", "It\u2019s!"),
        ("three point five", "3.5"),
        ("one thousand two hundred", "1,200"),
        ("well known", "well-known"),
    ],
)
def test_how_it_is_written_does_not_count(heard, text):
    assert errors(heard, text)[0] == 0


def test_nothing_heard_is_all_wrong():
    assert errors("", "new words") == (9, 9, 2, 2)


def test_a_text_without_words_is_refused():
    with pytest.raises(ValueError, match="no words"):
        errors("heard", "...")


class Parrot:
    """Hears its list of texts."""

    name = "parrot"
    language = "en"

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def transcribe(self, sounds, sample_rate):
        return [self.texts.pop(0) for _ in sounds]


def test_rates_are_over_all_letters():
    metric = ErrorRates(Parrot("abcd", "a", "xx"))
    silence = torch.zeros(10)
    metric.update([silence, silence], 16_000, ["abcd", "ab"])
    metric.update([silence], 16_000, ["x y"])
    rates = metric.compute()
    assert float(rates["cer"]) == pytest.approx((0 + 1 + 2) / (4 + 2 + 3))
    assert float(rates["wer"]) == pytest.approx((0 + 1 + 2) / (1 + 1 + 2))


def test_texts_without_words_are_skipped_and_counted():
    metric = ErrorRates(Parrot("abcd"))
    silence = torch.zeros(10)
    metric.update([silence, silence, silence], 16_000, ["?!", "abcf", "..."])
    assert float(metric.compute()["cer"]) == pytest.approx(1 / 4)
    assert int(metric.skipped) == 2
