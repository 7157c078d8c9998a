"""How well the looks of one attention head follow a text that is spoken: pure functions.

A look is the text token that a head sees most when it predicts a speech column. Shapes: T speech columns, N text
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The path begins at the first token among this many first looks, and ends at the last token among as many last ones.
EDGE = 5


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Scores of a head, each from 0 to 1.

    Args:
        text: Share of its attention that is on the text. It does not enter `score`, because the looks are chosen among
            the text tokens only.
        steps: Share of steps from one look to the next that go back by at most one token, and forward by no more than
            a speech does.
        pace: Share of the variance of the looks that a steady pace through the text explains; 0 if they go back.
        reach: Share of the text between the beginning and the end of the path.
    """

    text: float
    steps: float
    pace: float
    reach: float

    @property
    def score(self) -> float:
        """The product of `steps`, `pace` and `reach`: 1 is a path through the whole text, 0 is none."""
        return self.steps * self.pace * self.reach


def score_shares(shares: Tensor, skip: int) -> HeadScores:
    """Scores of a head over one speech.

    Args:
        shares: Shares of its attention that are on the text tokens, for each speech column, ``[T, N]``.
        skip: Largest number of tokens that a speech may jump ahead from one column to the next.
    """
    looks = shares.argmax(-1)
    tokens = shares.shape[1]
    return HeadScores(
        text=shares.sum(-1).mean().item(),
        steps=share_of_steps(looks, skip),
        pace=steadiness(looks),
        reach=share_of_text(looks, tokens),
    )


def share_of_steps(looks: Tensor, skip: int) -> float:
    """Share of steps between looks ``[T]`` that go back by at most one token and forward by at most `skip`."""
    steps = looks.diff()
    return ((steps >= -1) & (steps <= skip)).float().mean().item() if len(steps) else 0.0


def steadiness(looks: Tensor) -> float:
    """Share of the variance of looks ``[T]`` that a steady pace explains (R squared); 0 if they go back or stay."""
    time = torch.arange(len(looks), device=looks.device)
    varied = torch.stack([looks, time]).double()
    varied = varied - varied.mean(-1, keepdim=True)
    together, spread = varied.prod(0).sum().item(), varied.square().sum(-1).prod().item()
    return together**2 / spread if together > 0 else 0.0


def share_of_text(looks: Tensor, tokens: int) -> float:
    """Share of a text of N tokens between the first looks of a path ``[T]`` and its last ones; 0 if it goes back."""
    if tokens < 2:
        return 0.0
    begin, end = looks[:EDGE].min().item(), looks[-EDGE:].max().item()
    return max(0.0, (end - begin) / (tokens - 1))
