"""How the next tokens are drawn: settings, and pure filters over logits ``[..., V]``."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

# Scores of tokens that may not be drawn. Finite, so that a row with every token filtered still has a softmax.
MASKED = -1e30


@dataclass(frozen=True)
class RepetitionAware:
    """Draws once more, from the whole distribution, when the drawn token was spoken a moment ago (VALL-E 2).

    With it, top-k and top-p are both measured on the whole distribution, as CosyVoice does.

    Args:
        window: Newest columns that are looked at.
        share: A token that makes up at least this share of them is drawn again.
        exclude: Whether the second draw leaves the token out (CosyVoice since February 2026; before, it did not).
    """

    window: int = 10
    share: float = 0.1
    exclude: bool = True


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn from logits.

    Args:
        temperature: Logits are divided by it; 0 takes the most likely token (greedy).
        top_k: Draw among the k most likely tokens; 0 draws among all.
        top_p: Draw among the fewest most likely tokens whose probability reaches p; 1 draws among all.
        repetition_penalty: Logits of tokens already spoken are divided by it (multiplied where negative); 1 is none.
        already_spoken: Tokens that count as spoken from the first step on, in every codebook.
        repetition: Draw again what was just spoken; None does not. Greedy choice never does.

    Raises:
        ValueError: On a value outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    already_spoken: list[int] = field(default_factory=list)
    repetition: RepetitionAware | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} is negative: give 0 (greedy) or more")
        if self.top_k < 0:
            raise ValueError(f"top_k {self.top_k} is negative: give 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is outside (0, 1]")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty {self.repetition_penalty} is not positive: 1 is no penalty")

    def filter(self, logits: Tensor) -> Tensor:
        """Mask the tokens that are not drawn. Override it in a subclass for another rule, such as min-p.

        Args:
            logits: ``[B, n, V]``, already divided by the temperature.

        Returns:
            The logits, `MASKED` where a token is not drawn; at least one token of every row is left.
        """
        if self.repetition is None:
            return keep_top_p(keep_top_k(logits, self.top_k), self.top_p)
        likely = keep_top_k(logits, self.top_k) > MASKED
        return keep_top_p(logits, self.top_p).masked_fill(~likely, MASKED)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Mask all but the k largest logits (ties with the k-th stay)."""
    if k <= 0 or k >= logits.shape[-1]:
        return logits
    kth = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < kth, MASKED)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Mask all but the fewest most likely tokens whose probabilities add up to at least p; the first always stays."""
    if p >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill((before >= p).scatter(-1, order, before >= p), MASKED)


def penalise_repetition(logits: Tensor, spoken: Tensor, penalty: float) -> Tensor:
    """Make tokens that were spoken less likely (Keskar et al., 2019: divide where positive, multiply where negative).

    Args:
        logits: ``[..., V]``.
        spoken: Bool ``[..., V]``.
        penalty: Above 1 discourages, below 1 encourages.
    """
    if penalty == 1:
        return logits
    return torch.where(spoken, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
