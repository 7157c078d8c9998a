"""Sampling settings, and pure filters over logits ``[..., V]``."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from wand.checks import check_number, check_switch, check_whole_number

# Logit of tokens that may not be sampled. Finite, so that a row with every token masked still has a softmax.
MASKED = -1e30
# Below this temperature, the most likely token is taken: float32 logits could not be divided by it.
GREEDY_BELOW = 1e-6


@dataclass(frozen=True)
class RepetitionAware:
    """Samples again, from the whole distribution, if the sampled token was spoken recently (VALL-E 2).

    With this setting, top-k and top-p both use the whole distribution, as in CosyVoice.

    Args:
        window: Number of recent columns to check.
        share: Sample again if the token makes up at least this share of the recent columns.
        exclude: Whether the second draw excludes the token, as CosyVoice does since February 2026 (it did not before).

    Raises:
        ValueError: If a value is outside its range.
    """

    window: int = 10
    share: float = 0.1
    exclude: bool = True

    def __post_init__(self) -> None:
        check_whole_number("repetition.window", self.window, least=1, hint="it counts columns")
        check_number("repetition.share", self.share, "[0, 1]")
        check_switch("repetition.exclude", self.exclude)


@dataclass(frozen=True)
class Sampling:
    """Sampling settings.

    Args:
        temperature: Divides the logits; 0 (or less than 1e-6) takes the most likely token (greedy).
        top_k: Sample from the k most likely tokens; 0 uses all tokens.
        top_p: Sample from the smallest set of most likely tokens whose probability reaches p; 1 uses all tokens.
        repetition_penalty: Divides the logits of tokens already spoken (multiplies negative logits); 1 is no penalty.
        already_spoken: Tokens that count as spoken from the first step on, in every codebook.
        repetition: Sample again if a token was spoken recently; None never does. Not used by greedy sampling.

    Raises:
        ValueError: If a value is outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    already_spoken: list[int] = field(default_factory=list)
    repetition: RepetitionAware | None = None

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, "[0, inf)", "give 0 (greedy) or more")
        check_whole_number("top_k", self.top_k, least=0, hint="give 0 (all tokens) or more")
        check_number("top_p", self.top_p, "(0, 1]")
        check_number("repetition_penalty", self.repetition_penalty, "(0, inf)", "1 is no penalty")
        if not isinstance(self.already_spoken, list | tuple):
            raise ValueError(f"already_spoken {self.already_spoken!r} is not a list of tokens")
        for token in self.already_spoken:
            check_whole_number("already_spoken", token, least=0)
        if not isinstance(self.repetition, RepetitionAware | None):
            raise ValueError(f"repetition {self.repetition!r} is not a RepetitionAware")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, without drawing."""
        return self.temperature < GREEDY_BELOW

    def filter(self, logits: Tensor) -> Tensor:
        """Mask the tokens that may not be sampled. Override it in a subclass for another rule, such as min-p.

        Args:
            logits: ``[B, n, V]``, already divided by the temperature.

        Returns:
            The logits, with `MASKED` for tokens that may not be sampled. At least one token per row must be left.
        """
        if self.repetition is None:
            return keep_top_p(keep_top_k(logits, self.top_k), self.top_p)
        likely = keep_top_k(logits, self.top_k) > MASKED
        return keep_top_p(logits, self.top_p).masked_fill(~likely, MASKED)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Mask all but the k largest logits. Ties with the k-th logit are kept."""
    if k <= 0 or k >= logits.shape[-1]:
        return logits
    kth = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < kth, MASKED)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Mask all but the smallest set of most likely tokens whose probability reaches p. At least one token is kept."""
    if p >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    return logits.masked_fill((before >= p).scatter(-1, order, before >= p), MASKED)


def penalise_repetition(logits: Tensor, spoken: Tensor, penalty: float) -> Tensor:
    """Apply a repetition penalty: divide positive logits, multiply negative logits (Keskar et al., 2019).

    Args:
        logits: ``[..., V]``.
        spoken: Bool ``[..., V]``, the tokens that were spoken.
        penalty: Above 1 makes spoken tokens less likely, below 1 more likely.
    """
    if penalty == 1:
        return logits
    return torch.where(spoken, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
