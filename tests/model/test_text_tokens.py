"""Texts as tokens: windows of text begin at words, and a prefix from tokens equals one from the text."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.backbones.contract import columns_of_tokens
from tests.model.test_prompt_tokens import FORMAT, MARKS, VOICE, byte_level
from wand.backbones.encodec_lm import SymbolConditioner
from wand.codecs.reference import Reference
from wand.model.batch import Conditioner, Conditioning
from wand.model.columns import ColumnLayout
from wand.model.prompts import PromptConditioner
from wand.model.text_tokens import PassageConditioner, TextTokens
from wand.text.front_end import SYMBOLS, FrontEnd
from wand.text.units import TextUnits

TEXT = "She has 25 of the dogs, and it cost $5 to see."
SPELLED = "it was a good day, and so it is - “well” he said."


LONG = """She was there when the old man came to the house. "Go," he said, "and do not come back!" So she went
down to the river, as her mother had done for many years; but no one was there to take her over the water. What could
she do? She sat on a stone and waited for the light."""


def same(one: Conditioning, other: Conditioning) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def symbols(front_end: FrontEnd) -> SymbolConditioner:
    return SymbolConditioner(ColumnLayout(2, 10, 11), front_end, SYMBOLS[front_end] + '";', reference_frames=3)


def test_tokens_that_share_a_symbol_begin_no_word() -> None:
    """Token places: ``a``, `` ``, the two halves of ``你``, ``好b``, `` c``."""
    places = [(0, 1), (1, 2), (2, 3), (2, 3), (3, 5), (5, 7)]
    made = TextTokens.of(range(6), places, "a 你好b c", ["a", " 你", "好", "b", " c"], [0, 1, 3, 4, 5])
    assert made == TextTokens((0, 1, 2, 3, 4, 5), ("a", "你", "好b", "c"), (0, 1, 4, 5), (0, 2, 4, 5))


def test_a_blank_that_a_token_hides_belongs_to_the_word() -> None:
    """Some tokenizers do not count the blank of a token to its place."""
    made = TextTokens.of([7, 8], [(0, 2), (3, 5)], "so it", ["so", " it"], [0, 2])
    assert made.firsts == made.onsets == (0, 1)


def test_a_word_without_a_place_is_joined() -> None:
    made = TextTokens.of(range(4), [(i, i + 1) for i in range(4)], "əv d", ["of", " the", " end"], [0, None, 2])
    assert made == TextTokens((0, 1, 2, 3), ("of the", "end"), (0, 2), (0, 3))


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
    assert joined.onsets == tuple(first + 1 for first in joined.firsts), "a word is heard after its blank"


def test_the_words_of_phones_are_written_words() -> None:
    words = ("She", "has", "25", "of the", "dogs,", "and", "it", "cost", "$5", "to", "see.")
    assert symbols("phones").tokens(TEXT).words == words


def test_windows_of_words_make_a_prefix() -> None:
    conditioner, voice = symbols("letters"), Reference(torch.ones(2, 5, dtype=torch.long))
    tokens = conditioner.tokens(SPELLED)
    window = tokens.ids[tokens.firsts[2] : tokens.firsts[5]]
    begin, end = conditioner.text_span(made := conditioner.with_tokens(window, voice))
    assert "".join(conditioner.symbols[id] for id in made["ids"][begin:end, 0]) == " a good day,"


ENDS = "<|end_text|><|speech|>"
PROMPTS = ["<|text|>{text}" + ENDS, "say {text}" + ENDS, "{speaker}: {text}" + ENDS]
CONTINUED = "<|text|>{reference_text} {text}" + ENDS + "{reference}"


@pytest.mark.parametrize("words", [None, "so it is."])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("text", ["hello, he said", "你好，hello!  he\nell [laughter]", "e\u0301t<|stop|>", " hell "])
def test_a_prompt_from_tokens_is_that_of_the_text(text: str, prompt: str, words: str | None) -> None:
    format = replace(FORMAT, prompt=prompt, prompt_with_reference=CONTINUED, tags=["[laughter]"])
    conditioner = PromptConditioner(format, byte_level([*MARKS, "[laughter]"]))
    tokens, begin, end = columns_of_tokens(conditioner, text, reference := replace(VOICE, text=words))
    assert tuple(conditioner(text, reference)["ids"][begin:end].tolist()) == tokens.ids


def test_words_of_a_byte_level_tokenizer_are_whole_letters() -> None:
    tokens = PromptConditioner(FORMAT, tokenizer := byte_level(MARKS)).tokens("hello, hell 你好， ok")
    assert tokens.words == ("hello,", "hell", "你", "好，", "ok")
    assert [len(tokenizer(part)) for part in ("hello,", " hell", " 你", "好，")] == [
        after - first for first, after in pairwise(tokens.firsts)
    ]


def test_units_of_a_passage_have_the_tokens_of_its_text() -> None:
    conditioner = PromptConditioner(replace(FORMAT, prompt=PROMPTS[2]), byte_level(MARKS))
    assert ids_of_units(conditioner, LONG) == conditioner.tokens(LONG).ids


@pytest.mark.parametrize("front_end", ["letters", "phones"])
def test_units_of_a_passage_have_the_symbols_of_its_text(front_end: FrontEnd) -> None:
    conditioner = symbols(front_end)
    assert ids_of_units(conditioner, LONG) == conditioner.tokens(LONG).ids


def ids_of_units(conditioner: PassageConditioner, text: str) -> tuple[int, ...]:
    units = TextUnits()
    units.add(text)
    units.close()
    made = [conditioner.tokens(unit, joined=i > 0).ids for i, unit in enumerate(iter(units.next, None))]
    assert len(made) > 4
    return tuple(id for ids in made for id in ids)


def test_phones_of_a_byte_level_tokenizer_are_written_words() -> None:
    format = replace(FORMAT, prompt="{text}" + ENDS, prompt_with_reference=CONTINUED, front_end="phones")
    conditioner = PromptConditioner(format, byte_level(MARKS))
    for words in (None, "It is 5."):
        tokens, *_ = columns_of_tokens(conditioner, TEXT, replace(VOICE, text=words))
        assert tokens.words == ("She", "has", "25", "of the", "dogs,", "and", "it", "cost", "$5", "to", "see.")
    assert conditioner.tokens(TEXT, joined=True) == tokens


def test_a_transcript_may_share_a_token_with_the_text_but_not_with_tokens() -> None:
    """A format without a blank between the two, as Spark-TTS has it."""
    together = replace(FORMAT, prompt_with_reference="{reference_text}{text}" + ENDS)
    conditioner, voice = PromptConditioner(together, tokenizer := byte_level(MARKS)), replace(VOICE, text="he")
    ids = conditioner.tokens("ll").ids
    made = conditioner.with_tokens(ids, voice)
    assert made["ids"].tolist() == [*tokenizer("he"), *ids, *tokenizer(ENDS)]
    read = conditioner("ll", voice)
    assert read["ids"].tolist() == tokenizer("hell" + ENDS)
    assert conditioner.text_span(read) == (1, 2)


def test_a_prompt_that_names_the_text_twice_takes_no_tokens() -> None:
    conditioner = PromptConditioner(replace(FORMAT, prompt="{text}<|text|>{text}" + ENDS), byte_level(MARKS))
    assert len(conditioner("hello", VOICE)["ids"])
    with pytest.raises(ValueError, match="names the text more than once"):
        conditioner.with_tokens([1], VOICE)


@pytest.mark.parametrize("joined", [False, True])
def test_a_unit_without_words_is_refused(joined: bool) -> None:
    for conditioner in (symbols("letters"), PromptConditioner(FORMAT, byte_level(MARKS))):
        with pytest.raises(ValueError, match="the text is empty"):
            conditioner.tokens(" ", joined)


def test_other_conditioners_take_no_passages() -> None:
    class Plain:
        fingerprint = "plain"

        def __call__(self, text: str, reference: Reference) -> Conditioning: ...

        def length(self, conditioning: Conditioning) -> int: ...

        def collate(self, conditionings: list[Conditioning], prefix_length: int) -> Conditioning: ...

    plain: Conditioner = Plain()
    assert not isinstance(plain, PassageConditioner)
