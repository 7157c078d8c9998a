"""A sampler with a random seed for each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wand.decoding.uniform import as_int64, uniform
from wand.model.sampling import MASKED, RepetitionAware, Sampling, penalise_repetition


class Sampler:
    """Samples tokens for B rows. The tokens of a row depend only on its own seed and logits, not on other rows.

    All state is in tensors on the device of the logits and is changed in place, so sampling never waits for the host.
    Logits that are not finite give token 0 and are noted in `finite`.

    Args:
        sampling: Sampling settings.
        seeds: Random seed of each row.
        forbidden: Bool ``[K, V]``: tokens that are never sampled; None if all may be.
        device: Device of the logits.

    Attributes:
        finite: Bool ``[B]``: whether the logits of each row were finite so far. A token whose logit is -inf is only
            impossible, but a row needs one possible token.
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
        self._seeds = as_int64(seeds).to(device)
        self.finite = torch.ones_like(self._seeds, dtype=torch.bool)
        self._calls = torch.zeros_like(self._seeds)
        self._remembered = torch.zeros_like(self._seeds)
        self._codebooks = 0
        self._spoken: Tensor | None = None
        self._lately: Tensor | None = None

    def __call__(self, logits: Tensor, first: int = 0) -> Tensor:
        """Sample tokens ``[B, n]`` of n codebooks from logits ``[B, n, V]``.

        Each step samples each codebook once, in order. A call may sample all codebooks or only some of them; in the
        second case, call `prepare` first.

        Args:
            logits: Logits of the codebooks ``first .. first + n - 1``.
            first: Index of the first codebook.
        """
        settings = self.sampling
        if first == 0 and self._codebooks == 0:
            self.prepare(*logits.shape[1:])
        own = slice(first, first + logits.shape[1])
        logits = logits.float()
        self._note(logits.amax(-1))
        if self._spoken is not None:
            logits = penalise_repetition(logits, self._spoken[:, own], settings.repetition_penalty)
        if self.forbidden is not None:
            logits = logits.masked_fill(self.forbidden[own], MASKED)
        if settings.greedy:
            return self._where_finite(logits.argmax(-1))
        tokens = self._draw(logits / settings.temperature, own)
        if own.stop == self._codebooks:
            self._calls += 1
        return self._where_finite(tokens)

    def _note(self, largest: Tensor) -> None:
        """Note the rows whose largest logit of a codebook, ``[B, n]``, is not finite. It is NaN if any logit is."""
        self.finite &= largest.isfinite().all(-1)

    def _where_finite(self, tokens: Tensor) -> Tensor:
        """The tokens ``[B, n]``, and 0, which every model can embed, in rows with logits that are not finite."""
        return tokens.masked_fill(~self.finite[:, None], 0)

    def prepare(self, codebooks: int, tokens: int) -> None:
        """Allocate the state of the repetition rules for logits ``[B, K, V]``, unless it exists."""
        self._codebooks = codebooks
        rows, settings = len(self._seeds), self.sampling
        if self._spoken is None and settings.repetition_penalty != 1:
            self._spoken = self._spoken_before(codebooks, tokens, rows)
        if self._lately is None and settings.repetition is not None:
            self._lately = self._seeds.new_full((rows, settings.repetition.window, codebooks), -1)

    def remember(self, columns: Tensor) -> None:
        """Record the spoken column ``[B, K]`` for the repetition rules."""
        if self._spoken is not None:
            self._spoken.scatter_(-1, columns[..., None], True)
        if self._lately is not None and (rule := self.sampling.repetition) is not None:
            place = (self._remembered % rule.window)[:, None, None].expand(-1, 1, columns.shape[1])
            self._lately.scatter_(1, place, columns[:, None])
            self._remembered += 1

    def restart(self, rows: Tensor, seeds: Sequence[int]) -> None:
        """Reset some rows ``[n]`` for new speeches. Other rows do not change."""
        self._seeds[rows] = as_int64(seeds).to(self._seeds.device)
        self.finite[rows] = True
        self._calls[rows] = 0
        self._remembered[rows] = 0
        if self._spoken is not None:
            _, codebooks, tokens = self._spoken.shape
            self._spoken[rows] = self._spoken_before(codebooks, tokens, len(rows))
        if self._lately is not None:
            self._lately[rows] = -1

    def save(self, row: int) -> list[Tensor]:
        """The seed and the state of a row, for `load` into any row."""
        return [tensor[row].clone() for tensor in (self._seeds, *self.state())]

    def load(self, row: int, saved: Sequence[Tensor]) -> None:
        """Set the seed and the state of a row."""
        for tensor, value in zip((self._seeds, *self.state()), saved, strict=True):
            tensor[row] = value

    def keep(self, rows: Tensor) -> None:
        """Keep only the given rows ``[n]``."""
        self._seeds, self._calls, self._remembered = self._seeds[rows], self._calls[rows], self._remembered[rows]
        self.finite = self.finite[rows]
        self._spoken = None if self._spoken is None else self._spoken[rows]
        self._lately = None if self._lately is None else self._lately[rows]

    def state(self) -> list[Tensor]:
        """The tensors that a step changes. After `prepare` they are always the same objects."""
        own = (self.finite, self._calls, self._remembered, self._spoken, self._lately)
        return [tensor for tensor in own if tensor is not None]

    def _spoken_before(self, codebooks: int, tokens: int, rows: int) -> Tensor:
        if (largest := max(self.sampling.already_spoken, default=0)) >= tokens:
            raise ValueError(f"already_spoken {largest} is no token of the model, which has 0 to {tokens - 1}")
        spoken = torch.zeros(rows, codebooks, tokens, dtype=torch.bool, device=self._seeds.device)
        spoken[..., self.sampling.already_spoken] = True
        return spoken

    def _draw(self, logits: Tensor, own: slice) -> Tensor:
        settings = self.sampling
        # Always two numbers per codebook, so that the numbers of a row do not depend on its tokens.
        numbers = uniform(self._seeds, self._calls, 2 * self._codebooks).view(len(logits), 2, -1)[..., own]
        filtered = settings.filter(logits)
        self._note(filtered.amax(-1))  # the temperature or the filter may have made it infinite
        tokens = _pick(filtered, numbers[:, 0])
        if settings.repetition is None:
            return tokens
        others = logits.scatter(-1, tokens[..., None], MASKED) if settings.repetition.exclude else logits
        return torch.where(self._is_repeated(tokens, own, settings.repetition), _pick(others, numbers[:, 1]), tokens)

    def _is_repeated(self, tokens: Tensor, own: slice, rule: RepetitionAware) -> Tensor:
        if self._lately is None:
            return torch.zeros_like(tokens, dtype=torch.bool)
        return (self._lately[..., own] == tokens[:, None]).sum(1) >= rule.window * rule.share


def _pick(logits: Tensor, numbers: Tensor) -> Tensor:
    """Sample by inverting the cumulative distribution at numbers ``[B, K]`` in [0, 1)."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    threshold = numbers[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
