"""Why a decode ends."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.decoding.stopping import StopReason, StopRules, repeats


def column(tokens: list[int]) -> torch.Tensor:
    """Columns of two codebooks; the second says nothing."""
    return torch.tensor([[token, 9] for token in tokens]).view(-1, 2)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=9))
def test_repeats(tokens):
    n = len(tokens)
    periods = [p for p in range(1, n // 2 + 1) if all(tokens[i] == tokens[i - p] for i in range(p, n))]
    assert repeats(column(tokens)) == bool(periods)


def test_a_loop_is_one_in_all_codebooks():
    columns = torch.tensor([[1, 0], [1, 1], [1, 0], [1, 2]])
    assert repeats(columns[:, :1])
    assert not repeats(columns)


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([1, 2, 3, 4, 5], None),
        ([1, 2, 3, 4, 5, 6, 7, 8, 1], None),
        ([1, 2, 3, 4, 5, 6, 7, 8, 1, 2], StopReason.LENGTH),
        ([5, 1, 2, 1, 2], StopReason.LOOP),
        ([5, 1, 2, 1, 2, 3], None),
        ([5, 0, 7, 0], StopReason.SILENCE),
        ([0, 7, 0, 5], None),
        ([0, 0], None),
        ([1, 1, 1, 0, 0, 0], StopReason.SILENCE),
    ],
    ids=str,
)
def test_rules(tokens, reason):
    rules = StopRules(max_columns=10, loop_columns=4, silence_columns=3, silent_tokens=frozenset({0, 7}))
    assert rules.check(column(tokens)) == reason


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([0, 12, 25, 7, 14, 29, 0, 11, 20], StopReason.SILENCE),  # slots of 10 tokens, the first one silent
        ([12, 25, 7, 14, 29, 0, 11, 20, 7], StopReason.SILENCE),  # the columns may begin anywhere in a frame
        ([0, 12, 25, 1, 14, 29, 0, 11, 20], None),
        ([12, 25, 14, 29, 11, 20, 13, 24, 15], None),  # nothing is known
    ],
)
def test_only_the_first_slot_of_a_frame_tells_silence(tokens, reason):
    rules = StopRules(max_columns=10, silence_columns=9, silent_tokens=frozenset({0, 7}), first_tokens=10)
    assert rules.check(column(tokens)) == reason


def test_rules_of_zero_columns_never_act():
    rules = StopRules(max_columns=10, silent_tokens=frozenset({0}))
    assert rules.check(column([0] * 9)) is None


def test_reasons_read_as_words():
    assert [str(reason) for reason in StopReason] == ["stop token", "length bound", "loop", "silence", "end of text"]


def test_a_bound_is_positive():
    with pytest.raises(ValueError, match="max_columns 0"):
        StopRules(max_columns=0)
