"""Texts as tokens: windows of text begin at words, and a prefix from tokens equals one from the text."""

from __future__ import annotations

import pytest
import torch

from wand.backbones.encodec_lm import SymbolConditioner
from wand.codecs.reference import Reference
from wand.model.batch import Conditioner, Conditioning
from wand.model.columns import ColumnLayout
from wand.model.text_tokens import PassageConditioner, TextTokens
from wand.text.front_end import SYMBOLS, FrontEnd

TEXT = "She has 25 of the dogs, and it cost $5 to see."
SPELLED = "it was a good day, and so it is - “well” he said."


def same(one: Conditioning, other: Conditioning) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def symbols(front_end: FrontEnd) -> SymbolConditioner:
    return SymbolConditioner(ColumnLayout(2, 10, 11), front_end, SYMBOLS[front_end] + '"', reference_frames=3)


def test_tokens_that_share_a_symbol_begin_no_word() -> None:
    """Token places: ``a``, `` ``, the two halves of ``你``, ``好b``, `` c``."""
    places = [(0, 1), (1, 2), (2, 3), (2, 3), (3, 5), (5, 7)]
    made = TextTokens.of(range(6), places, ["a", " 你", "好", "b", " c"], [0, 1, 3, 4, 5])
    assert made == TextTokens((0, 1, 2, 3, 4, 5), ("a", "你", "好b", "c"), (0, 1, 4, 5))


def test_a_blank_that_a_token_hides_belongs_to_the_word() -> None:
    """Some tokenizers do not count the blank of a token to its place."""
    assert TextTokens.of([7, 8], [(0, 2), (3, 5)], ["so", " it"], [0, 2]).firsts == (0, 1)


def test_a_word_without_a_place_is_joined() -> None:
    made = TextTokens.of(range(4), [(i, i + 1) for i in range(4)], ["of", " the", " end"], [0, None, 2])
    assert made == TextTokens((0, 1, 2, 3), ("of the", "end"), (0, 2))


@pytest.mark.parametrize("front_end", ["letters", "phones"])
def test_symbols_of_a_text(front_end: FrontEnd) -> None:
    conditioner, voice = symbols(front_end), Reference(torch.ones(2, 5, dtype=torch.long))
    text = TEXT if front_end == "phones" else SPELLED
    assert isinstance(conditioner, PassageConditioner)
    tokens = conditioner.tokens(text)
    made = conditioner.with_tokens(tokens.ids, voice)
    assert same(made, conditioner(text, voice))
    begin, end = conditioner.text_span(made)
    assert tuple(made["ids"][begin:end, 0].tolist()) == tokens.ids
    assert made["is_text"].tolist() == [False] * begin + [True] * (end + 1 - begin)
    joined = conditioner.tokens(text, joined=True)
    assert joined.ids == (conditioner.symbols.index(" "), *tokens.ids)
    assert joined.words == tokens.words
    assert joined.firsts == (0, *(first + 1 for first in tokens.firsts[1:]))
    assert all(conditioner.symbols[joined.ids[first]] == " " for first in joined.firsts)


def test_the_words_of_phones_are_written_words() -> None:
    words = ("She", "has", "25", "of the", "dogs,", "and", "it", "cost", "$5", "to", "see.")
    assert symbols("phones").tokens(TEXT).words == words


def test_windows_of_words_make_a_prefix() -> None:
    conditioner, voice = symbols("letters"), Reference(torch.ones(2, 5, dtype=torch.long))
    tokens = conditioner.tokens(SPELLED)
    window = tokens.ids[tokens.firsts[2] : tokens.firsts[5]]
    begin, end = conditioner.text_span(made := conditioner.with_tokens(window, voice))
    assert "".join(conditioner.symbols[id] for id in made["ids"][begin:end, 0]) == " a good day,"


def test_other_conditioners_take_no_passages() -> None:
    class Plain:
        fingerprint = "plain"

        def __call__(self, text: str, reference: Reference) -> Conditioning: ...

        def length(self, conditioning: Conditioning) -> int: ...

        def collate(self, conditionings: list[Conditioning], prefix_length: int) -> Conditioning: ...

    plain: Conditioner = Plain()
    assert not isinstance(plain, PassageConditioner)
