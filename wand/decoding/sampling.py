"""How the next tokens are drawn: pure filters over logits ``[..., V]`` and a sampler with a seed per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wand.decoding.uniform import uniform

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


class Sampler:
    """Draws tokens for B rows; what a row draws depends on its own seed and logits alone, not on its neighbours.

    All state is tensors that are changed in place, where the logits are: nothing waits for the host.

    Args:
        sampling: How tokens are drawn.
        seeds: One per row.
        forbidden: Bool ``[K, V]``: tokens that are never drawn; None when all may be.
        device: Where the logits will be.
    """

    def __init__(
        self,
        sampling: Sampling,
        seeds: Sequence[int],
        forbidden: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.sampling = sampling
        self.forbidden = None if forbidden is None else forbidden.to(device)
        self._seeds = torch.tensor(list(seeds), dtype=torch.long, device=device)
        self._calls = torch.zeros_like(self._seeds)
        self._remembered = torch.zeros_like(self._seeds)
        self._codebooks = 0
        self._spoken: Tensor | None = None
        self._lately: Tensor | None = None

    def __call__(self, logits: Tensor, first: int = 0) -> Tensor:
        """Draw tokens ``[B, n]`` of n codebooks from logits ``[B, n, V]``.

        Every step draws every codebook once, in order: all at once, or some at a time after `prepare`.

        Args:
            logits: Of the codebooks ``first .. first + n - 1``.
            first: The first of them.
        """
        settings = self.sampling
        if first == 0 and self._codebooks == 0:
            self.prepare(*logits.shape[1:])
        own = slice(first, first + logits.shape[1])
        logits = logits.float()
        if self._spoken is not None:
            logits = penalise_repetition(logits, self._spoken[:, own], settings.repetition_penalty)
        if self.forbidden is not None:
            logits = logits.masked_fill(self.forbidden[own], MASKED)
        if settings.temperature == 0:
            return logits.argmax(-1)
        tokens = self._draw(logits / settings.temperature, own)
        if own.stop == self._codebooks:
            self._calls += 1
        return tokens

    def prepare(self, codebooks: int, tokens: int) -> None:
        """Make what the rules against repetition need for logits ``[B, K, V]``, unless it is there."""
        self._codebooks = codebooks
        rows, settings = len(self._seeds), self.sampling
        if self._spoken is None and settings.repetition_penalty != 1:
            self._spoken = self._spoken_before(codebooks, tokens, rows)
        if self._lately is None and settings.repetition is not None:
            self._lately = self._seeds.new_full((rows, settings.repetition.window, codebooks), -1)

    def remember(self, columns: Tensor) -> None:
        """Count the column ``[B, K]`` that was spoken, for the rules against repetition."""
        if self._spoken is not None:
            self._spoken.scatter_(-1, columns[..., None], True)
        if self._lately is not None and (rule := self.sampling.repetition) is not None:
            place = (self._remembered % rule.window)[:, None, None].expand(-1, 1, columns.shape[1])
            self._lately.scatter_(1, place, columns[:, None])
            self._remembered += 1

    def restart(self, rows: Tensor, seeds: Sequence[int]) -> None:
        """Let some rows ``[n]`` begin another speech; the others go on undisturbed."""
        self._seeds[rows] = torch.tensor(list(seeds), dtype=torch.long, device=self._seeds.device)
        self._calls[rows] = 0
        self._remembered[rows] = 0
        if self._spoken is not None:
            _, codebooks, tokens = self._spoken.shape
            self._spoken[rows] = self._spoken_before(codebooks, tokens, len(rows))
        if self._lately is not None:
            self._lately[rows] = -1

    def keep(self, rows: Tensor) -> None:
        """Keep some rows ``[n]`` only."""
        self._seeds, self._calls, self._remembered = self._seeds[rows], self._calls[rows], self._remembered[rows]
        self._spoken = None if self._spoken is None else self._spoken[rows]
        self._lately = None if self._lately is None else self._lately[rows]

    def state(self) -> list[Tensor]:
        """The tensors that a step changes; after `prepare`, always the same ones."""
        own = (self._calls, self._remembered, self._spoken, self._lately)
        return [tensor for tensor in own if tensor is not None]

    def _spoken_before(self, codebooks: int, tokens: int, rows: int) -> Tensor:
        spoken = torch.zeros(rows, codebooks, tokens, dtype=torch.bool, device=self._seeds.device)
        spoken[..., self.sampling.already_spoken] = True
        return spoken

    def _draw(self, logits: Tensor, own: slice) -> Tensor:
        settings = self.sampling
        # Always two a codebook, so that a row's numbers do not depend on what it said.
        numbers = uniform(self._seeds, self._calls, 2 * self._codebooks).view(len(logits), 2, -1)[..., own]
        tokens = _pick(settings.filter(logits), numbers[:, 0])
        if settings.repetition is None:
            return tokens
        others = logits.scatter(-1, tokens[..., None], MASKED) if settings.repetition.exclude else logits
        return torch.where(self._is_repeated(tokens, own, settings.repetition), _pick(others, numbers[:, 1]), tokens)

    def _is_repeated(self, tokens: Tensor, own: slice, rule: RepetitionAware) -> Tensor:
        if self._lately is None:
            return torch.zeros_like(tokens, dtype=torch.bool)
        return (self._lately[..., own] == tokens[:, None]).sum(1) >= rule.window * rule.share


def _pick(logits: Tensor, numbers: Tensor) -> Tensor:
    """Inverse of the distribution function at numbers ``[B, K]`` in [0, 1)."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    threshold = numbers[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
