"""The follower on readers whose place is known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from tests.conftest import TINY
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.passages.follower import Follower, TextWindow, Trouble
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules

VOICE = Reference(torch.zeros(3, 4, dtype=torch.long))
RULES = PassageRules(
    first=40, reach=80, ahead=40, behind=52, near=6, skip=8, reread=64, late=5, patience=25, stuck=150, ending=75
)  # fmt: skip
COLUMNS_PER_TOKEN = 2.6
Look = Callable[[int, TextWindow], int]


def long_text(words: int) -> str:
    chosen = random.Random(0)
    return " ".join("".join(chosen.choices("abcdefg", k=chosen.randint(1, 9))) for _ in range(words)) + "."


def follow(text: str, look: Look, rules: PassageRules = RULES, limit: int = 10**6) -> tuple[Follower, int]:
    """Let a follower follow a reader, as an engine does, until it may stop or meets a fault."""
    passage = Passage(EncodecLM(architecture=TINY).conditioner, VOICE, text)
    follower = Follower(passage, rules)
    for column in range(limit):
        if column % 4 == 0:
            if follower.window is not None and (follower.may_stop or follower.fault(column)):
                return follower, column
            if follower.is_due:
                window = follower.next_window(column)
                assert window is not None
                follower.move(window)
                assert window.end - window.begin <= rules.size
                # What is computed again was spoken since the first word of the window.
                assert follower.begun(window) <= max(0, column - rules.reread)
        assert follower.window is not None
        follower.see(column + 1, look(column + 1, follower.window))
    return follower, limit


def place(column: int) -> int:
    """The token that a steady reader says in a column."""
    return int(column / COLUMNS_PER_TOKEN)


def test_a_perfect_head_leads_to_the_end() -> None:
    text = long_text(800)
    follower, column = follow(text, lambda column, window: min(place(column), window.end - 1))
    assert follower.window is not None
    assert follower.passage.is_last(follower.window.end)
    follower.finish(column)
    assert [word.text for word in follower.words] == text.split()
    begins = [round(word.begin / COLUMNS_PER_TOKEN) for word in follower.words]
    firsts, at = [], 0
    for word in text.split():
        firsts.append(at)  # a word is heard after its blank
        at += len(word) + 1
    late = [own - first for own, first in zip(begins, firsts, strict=True)]
    assert max(map(abs, late)) <= 3
    assert abs(sum(late) / len(late)) < 0.3
    assert [word.end for word in follower.words[:-1]] == [word.begin for word in follower.words[1:]]


@pytest.mark.parametrize("seed", range(10))
def test_a_head_of_eighty_per_cent_leads_to_the_end(seed: int) -> None:
    """A fifth of the looks are anywhere in the window."""
    chosen = random.Random(seed)

    def look(column: int, window: TextWindow) -> int:
        if chosen.random() < 0.2:
            return chosen.randrange(window.begin, window.end)
        return min(place(column), window.end - 1)

    text = long_text(800)
    follower, column = follow(text, look)
    assert follower.fault(column) is None
    assert follower.window is not None
    assert follower.passage.is_last(follower.window.end)
    assert abs(place(column) - follower.place) <= RULES.skip


def test_a_skip_is_told() -> None:
    """The reader leaves out 30 tokens at column 1000."""
    follower, column = follow(
        long_text(400), lambda column, window: min(place(column) + 30 * (column >= 1000), window.end - 1)
    )
    fault = follower.fault(column)
    assert fault is not None
    assert fault.trouble == Trouble.SKIP
    assert abs(fault.token - place(1000)) <= 2
    assert abs(fault.column - 1000) <= 4
    assert column <= 1000 + RULES.patience + 4
    assert follower.can_repair(fault)
    follower.go_back(fault, fault.column)
    assert not follower.can_repair(fault)


def test_a_loop_is_told() -> None:
    """The reader says the same 40 tokens again and again."""
    follower, column = follow(
        long_text(400), lambda column, window: place(column) if column < 1000 else place(880) + place(column % 104)
    )
    fault = follower.fault(column)
    assert fault is not None
    assert fault.trouble == Trouble.LOOP
    assert abs(fault.token - place(1000)) <= 3


def test_a_stall_is_told_but_a_pause_is_none() -> None:
    def pausing(pause: int) -> Look:
        return lambda column, window: min(place(min(column, 1000) + max(0, column - 1000 - pause)), window.end - 1)

    follower, column = follow(long_text(300), pausing(30))
    assert follower.fault(column) is None
    follower, column = follow(long_text(300), pausing(10**6))
    fault = follower.fault(column)
    assert fault is not None
    assert fault.trouble == Trouble.STUCK
    assert abs(column - 1000 - RULES.stuck) <= 8


def test_a_speech_ends_after_its_text() -> None:
    follower, column = follow(long_text(60), lambda column, window: min(place(column), window.end - 1))
    assert follower.may_stop
    assert not follower.must_stop(column)
    assert follower.must_stop(column + RULES.ending)
