"""Codes as columns: how K codebooks become the steps of an autoregressive model, and back.

Codes are ``[K, F]`` (codebooks, frames), columns are ``[T, K]``. Under the delay pattern (MusicGen, Copet et al. 2023)
codebook k is shifted by k columns, so that a column's codebooks need not be predicted jointly; T = F + K - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wand.distillation import IGNORE


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The delay pattern over K codebooks; with one codebook, columns are the codes themselves.

    Args:
        num_codebooks: K.
        stop_id: Token of codebook 0 that ends the speech.
        filler_id: Token of the places that a delay leaves empty; never a label.
    """

    num_codebooks: int
    stop_id: int
    filler_id: int

    @property
    def flush_columns(self) -> int:
        """Columns beyond the frames, in which delayed codebooks end."""
        return self.num_codebooks - 1

    def to_columns(self, codes: Tensor) -> Tensor:
        """Codes ``[K, F]`` to columns ``[F + K - 1, K]``."""
        codebooks, frames = codes.shape
        if codebooks != self.num_codebooks:
            raise ValueError(f"codes have {codebooks} codebooks, this model speaks {self.num_codebooks}")
        columns = codes.new_full((frames + self.flush_columns, codebooks), self.filler_id)
        for k in range(codebooks):
            columns[k : k + frames, k] = codes[k]
        return columns

    def from_columns(self, columns: Tensor) -> Tensor:
        """Columns ``[T, K]`` to the codes of their complete frames ``[K, max(0, T - K + 1)]``."""
        frames = max(0, columns.shape[0] - self.flush_columns)
        return torch.stack([columns[k : k + frames, k] for k in range(self.num_codebooks)])

    def labels(self, columns: Tensor) -> Tensor:
        """What each step is to predict, for columns ``[T, K]``: ``[T + 1, K]``.

        Row i labels column i: codebook k for k <= i < F + k, codebook 0 the stop at i = F, everything else is ignored.
        """
        total = columns.shape[0]
        frames = total - self.flush_columns
        labels = torch.cat([columns, columns.new_full((1, self.num_codebooks), IGNORE)])
        step = torch.arange(total + 1, device=columns.device)[:, None]
        delay = torch.arange(self.num_codebooks, device=columns.device)
        labels = labels.masked_fill((step < delay) | (step >= frames + delay), IGNORE)
        labels[frames, 0] = self.stop_id
        return labels

    def settle(self, tokens: Tensor, step: int, frames: Tensor) -> Tensor:
        """Sampled tokens as the column that is fed back: filler where the delay leaves a place empty.

        Args:
            tokens: ``[B, K]`` sampled for speech column `step`.
            step: Index of the column.
            frames: ``[B]`` frames of rows that have stopped; a large number where a row has not.
        """
        delay = torch.arange(self.num_codebooks, device=tokens.device)
        empty = (step < delay) | (step >= frames[:, None] + delay)
        return tokens.masked_fill(empty, self.filler_id)
