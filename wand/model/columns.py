"""Convert codes of K codebooks to columns, the steps of an autoregressive model, and back.

Codes are ``[K, F]`` (codebooks, frames), columns are ``[T, K]``. The delay pattern (MusicGen, Copet et al. 2023) shifts
codebook k by k columns, so that the codes of a frame are predicted one after another; T = F + K - 1. A flattened model
instead puts each code of a frame in its own column, with one codebook per column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wand.distillation.losses import IGNORE


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The delay pattern over K codebooks. With one codebook, columns are the codes.

    Args:
        num_codebooks: K.
        stop_id: Token of codebook 0 that ends the speech.
        filler_id: Token for places that the delay leaves empty; never a label.
    """

    num_codebooks: int
    stop_id: int
    filler_id: int

    @property
    def columns_per_frame(self) -> int:
        """Number of columns of one frame."""
        return 1

    @property
    def rows_of_codes(self) -> int:
        """Number of rows of codes ``[rows, F]``: K, or the number of slots of a flattened frame."""
        return self.num_codebooks

    @property
    def flush_columns(self) -> int:
        """Number of columns after the last frame, for codebooks that are delayed."""
        return self.num_codebooks - 1

    def columns_of(self, frames: int) -> int:
        """Number of columns for a number of frames."""
        return frames * self.columns_per_frame + self.flush_columns

    def frames_of(self, columns: int) -> int:
        """Number of complete frames in a number of columns."""
        return max(0, columns - self.flush_columns) // self.columns_per_frame

    def whole_frames(self, window: int) -> int:
        """Round a window, in columns, up to whole frames."""
        return -(-window // self.columns_per_frame) * self.columns_per_frame

    def allowed_rows(self, rows: int) -> Tensor | None:
        """Bool ``[columns_per_frame, V]``: rows that may be spoken in each column of a frame; None if all may."""
        return None

    def to_columns(self, codes: Tensor) -> Tensor:
        """Convert codes ``[K, F]`` to columns ``[F + K - 1, K]``."""
        codebooks, frames = codes.shape
        if codebooks != self.num_codebooks:
            raise ValueError(f"codes have {codebooks} codebooks, this model speaks {self.num_codebooks}")
        columns = codes.new_full((frames + self.flush_columns, codebooks), self.filler_id)
        for k in range(codebooks):
            columns[k : k + frames, k] = codes[k]
        return columns

    def from_columns(self, columns: Tensor) -> Tensor:
        """Convert columns ``[T, K]`` to the codes ``[K, max(0, T - K + 1)]`` of their complete frames."""
        frames = self.frames_of(len(columns))
        return torch.stack([columns[k : k + frames, k] for k in range(self.num_codebooks)])

    def labels(self, columns: Tensor) -> Tensor:
        """Labels ``[T + 1, K]`` for columns ``[T, K]``.

        Row i labels column i. Codebook k has labels for k <= i < F + k, and codebook 0 has the stop at i = F. All other
        positions are ignored.
        """
        total = columns.shape[0]
        frames = total - self.flush_columns
        labels = torch.cat([columns, columns.new_full((1, self.num_codebooks), IGNORE)])
        step = torch.arange(total + 1, device=columns.device)[:, None]
        delay = torch.arange(self.num_codebooks, device=columns.device)
        labels = labels.masked_fill((step < delay) | (step >= frames + delay), IGNORE)
        labels[frames, 0] = self.stop_id
        return labels

    def settle(self, tokens: Tensor, steps: Tensor, frames: Tensor) -> Tensor:
        """Turn sampled tokens into the next input column, with filler where the delay pattern has no token.

        Args:
            tokens: ``[B, K]`` sampled tokens.
            steps: ``[B]`` index of the speech column that each row samples.
            frames: ``[B]`` number of frames of rows that have stopped; a large number for other rows.
        """
        delay = torch.arange(self.num_codebooks, device=tokens.device)
        empty = (steps[:, None] < delay) | (steps[:, None] >= frames[:, None] + delay)
        return tokens.masked_fill(empty, self.filler_id)


@dataclass(frozen=True, slots=True)
class FlattenedLayout(ColumnLayout):
    """Puts each code of a frame in its own column. Each slot of a frame has its own rows (Orpheus: 7 slots of 4096).

    Codes are ``[S, F]``, ordered by codebook. A codebook with several codes per frame has them in the order of time.
    Rows of the vocabulary: the codes of the slots in the order of speaking, then stop and other tokens.

    Args:
        num_codebooks: Must be 1.
        stop_id: Row that ends the speech.
        filler_id: Row for padding; never a label.
        sizes: Number of codes of each slot.
        codebooks: Codebook of each slot, such as ``(0, 1, 2, 2, 1, 2, 2)``.
    """

    sizes: tuple[int, ...]
    codebooks: tuple[int, ...]

    @property
    def columns_per_frame(self) -> int:
        """S, the slots."""
        return len(self.sizes)

    @property
    def rows_of_codes(self) -> int:
        """S, the slots."""
        return len(self.sizes)

    @property
    def _first_rows(self) -> list[int]:
        return [sum(self.sizes[:slot]) for slot in range(len(self.sizes))]

    @property
    def _order(self) -> list[int]:
        """The row of codes that belongs to each slot."""
        by_codebook = sorted(range(len(self.codebooks)), key=lambda slot: (self.codebooks[slot], slot))
        return [by_codebook.index(slot) for slot in range(len(self.codebooks))]

    def to_columns(self, codes: Tensor) -> Tensor:
        """Convert codes ``[S, F]`` to columns ``[S * F, 1]``."""
        if len(codes) != len(self.sizes):
            raise ValueError(f"codes have {len(codes)} rows, a frame of this model has {len(self.sizes)} slots")
        spoken = codes[self._order] + torch.tensor(self._first_rows, device=codes.device)[:, None]
        return spoken.T.reshape(-1, 1)

    def from_columns(self, columns: Tensor) -> Tensor:
        """Convert columns ``[T, 1]`` to the codes ``[S, T // S]`` of their complete frames."""
        slots = len(self.sizes)
        spoken = columns[: len(columns) // slots * slots, 0].view(-1, slots).T
        codes = spoken - torch.tensor(self._first_rows, device=columns.device)[:, None]
        by_row = torch.tensor(self._order, device=columns.device).argsort()
        return codes[by_row]

    def allowed_rows(self, rows: int) -> Tensor:
        """Bool ``[S, V]``: each slot may speak its own codes; rows that are not codes are allowed in the first slot."""
        allowed = torch.zeros(len(self.sizes), rows, dtype=torch.bool)
        for slot, (first, size) in enumerate(zip(self._first_rows, self.sizes, strict=True)):
            allowed[slot, first : first + size] = True
        allowed[0, sum(self.sizes) :] = True
        return allowed
