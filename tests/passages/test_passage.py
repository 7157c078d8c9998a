"""Texts that arrive in pieces, as tokens and words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backbones.test_causal_lm import make_model
from tests.conftest import TINY
from tests.passages.readers import pieces
from tests.passages.test_follower import long_text
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.passages.passage import LONGEST_WORD, Passage

VOICE = Reference(torch.zeros(3, 4, dtype=torch.long))
CONDITIONER = EncodecLM(architecture=TINY).conditioner
TEXT = "one day a small bird sat on the wall. it sang so well, that all who came by stood still, why? nobody knew."


def everything(passage: Passage) -> tuple[list[int], list[tuple[str, int]]]:
    """All token ids and words of a passage that keeps them."""
    assert passage.word_from(10**9) == passage.end
    ids = passage.conditioning(0, passage.end)["ids"][-passage.end - 1 :, 0]
    return ids.tolist(), passage.words(0, passage.end)


@pytest.mark.parametrize("seed", range(5))
def test_the_tokens_do_not_depend_on_the_pieces(seed: int) -> None:
    whole = Passage(CONDITIONER, VOICE, TEXT)
    assert everything(Passage(CONDITIONER, VOICE, pieces(TEXT, seed))) == everything(whole)
    added = Passage(CONDITIONER, VOICE)
    for piece in pieces(TEXT, seed):
        added.extend(piece)
    assert not added.is_last(added.end)
    added.close()
    assert everything(added) == everything(whole)
    assert [word for word, _ in whole.words(0, whole.end)] == TEXT.split()
    assert everything(whole)[0] == CONDITIONER(TEXT, VOICE)["ids"][-whole.end - 1 :, 0].tolist()


def test_an_iterator_is_read_when_it_is_needed() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for word in long_text(50_000).split():
            read += 1
            yield word + " "

    passage = Passage(CONDITIONER, VOICE, endless())
    for token in range(0, 20_000, 40):
        assert passage.word_from(token + 80) is not None
        passage.forget(max(0, token - 40))
        assert len(passage.words(0, passage.end)) < 100
        known = passage.end - token
        assert 80 <= known < 80 + 140 + LONGEST_WORD
    assert 3000 < read < 5000  # of about 20,000 tokens; a word has six, with its blank


def test_a_window_may_begin_within_a_word_that_is_too_long() -> None:
    passage = Passage(CONDITIONER, VOICE, f"so {'ab' * 100} it is.")
    places = [passage.word_from(token) for token in range(passage.end + 1)]
    assert all(place is not None and place - token < LONGEST_WORD for token, place in enumerate(places))
    assert [word[:4] for word, _ in passage.words(0, passage.end)] == ["so", "abab", "it", "is."]


def test_wrong_pieces_are_refused() -> None:
    given: list[Any] = ["one day ", None, "two days"]
    with pytest.raises(ValueError, match=r"^the text None is not a string$"):
        Passage(CONDITIONER, VOICE, given).word_from(40)
    with pytest.raises(ValueError, match="the text is empty"):
        Passage(CONDITIONER, VOICE, " ")
    with pytest.raises(ValueError, match="does not know"):
        Passage(CONDITIONER, VOICE, "a § b")
    passage = Passage(CONDITIONER, VOICE)
    with pytest.raises(ValueError, match="7 is not a string"):
        passage.extend(7)  # type: ignore[arg-type]
    passage.close()
    with pytest.raises(ValueError, match="is closed"):
        passage.extend("more")


@pytest.mark.parametrize("blanks", [1, 39, 60, 130])
def test_many_blanks_before_a_word_do_not_hide_it(tmp_path: Path, blanks: int) -> None:
    conditioner = make_model(tmp_path / "raw", "llasa").conditioner
    text = f"so{' ' * blanks}it is."
    passage = Passage(conditioner, Reference(torch.zeros(1, 4, dtype=torch.long)), text)
    words = passage.words(0, passage.end)
    assert [word.strip() for word, _ in words] == ["so", "it", "is."]
    assert [token for _, token in words] == sorted(token for _, token in words)
    # However the text is cut, every word is in exactly one part.
    for cut in range(passage.end):
        parts = passage.words(0, cut) + passage.words(cut, passage.end)
        assert parts == words
