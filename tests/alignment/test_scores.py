"""Scores of heads, against attention that is made by hand and against sums over every step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from wand.alignment.ranking import THRESHOLD
from wand.alignment.scores import HeadScores, score_shares, share_of_steps, share_of_text, steadiness

COLUMNS, TOKENS, SKIP = 200, 60, 6


def attention(looks: Tensor, text: float = 0.5) -> Tensor:
    """Attention whose largest share is on given tokens; all shares of the text sum to `text`."""
    shares = one_hot(looks, TOKENS).float() + 0.01
    return text * shares / shares.sum(-1, keepdim=True)


def score(looks: Tensor) -> HeadScores:
    return score_shares(attention(looks), SKIP)


@pytest.fixture
def diagonal() -> Tensor:
    return torch.linspace(0, TOKENS - 1, COLUMNS).round().long()


def test_a_perfect_path_has_the_score_of_one(diagonal: Tensor) -> None:
    found = score(diagonal)
    assert found.steps == 1
    assert found.pace == pytest.approx(1, abs=1e-3)
    assert found.reach == 1
    assert found.score > 0.99
    assert found.text == pytest.approx(0.5)


def test_how_much_is_on_the_text_does_not_enter_the_score(diagonal: Tensor) -> None:
    little = score_shares(attention(diagonal, 0.01), SKIP)
    assert little.score == score(diagonal).score
    assert little.text == pytest.approx(0.01)


@pytest.mark.parametrize(
    "kind", ["random", "one place", "ends only", "backwards", "jumps", "one token a column", "half", "two places"]
)
def test_heads_that_do_not_follow_the_text_fail(diagonal: Tensor, kind: str) -> None:
    time = torch.arange(COLUMNS)
    looks = {
        "random": torch.randint(TOKENS, (COLUMNS,)),
        "one place": torch.full((COLUMNS,), 7),
        "ends only": torch.where(time < COLUMNS // 2, 0, TOKENS - 1) * (time % 2),
        "backwards": diagonal.flip(0),
        "jumps": (diagonal + torch.randint(-20, 21, (COLUMNS,))).clamp(0, TOKENS - 1),
        "one token a column": time.clamp(max=TOKENS - 1),
        "half": diagonal // 2,
        "two places": torch.where(time % 2 == 0, diagonal, 0),
    }[kind]
    assert score(looks).score < THRESHOLD


def test_a_head_that_often_looks_elsewhere_is_below_one_that_seldom_does(diagonal: Tensor) -> None:
    def degraded(share: float) -> float:
        return score(torch.where(torch.rand(COLUMNS) < share, torch.randint(TOKENS, (COLUMNS,)), diagonal)).score

    assert degraded(0.5) < degraded(0.2) < degraded(0.05) < degraded(0)


@pytest.mark.parametrize("skip", [0, 2, 6])
def test_parts_equal_sums_over_every_step(skip: int) -> None:
    path = torch.randint(12, (40,)).sort().values + torch.randint(-2, 3, (40,)).clamp(min=0)
    looks = path.tolist()
    good = [-1 <= after - before <= skip for before, after in pairwise(looks)]
    assert share_of_steps(path, skip) == pytest.approx(sum(good) / 39)
    assert steadiness(path) == pytest.approx(np.corrcoef(looks, range(40))[0, 1] ** 2)
    assert share_of_text(path, 20) == (max(looks[-5:]) - min(looks[:5])) / 19


def test_the_shortest_speeches_and_texts_have_no_path() -> None:
    assert score_shares(torch.ones(1, 5), SKIP).score == 0
    assert score_shares(torch.ones(9, 1), SKIP).score == 0
