"""Codes as columns: how K codebooks become the steps of an autoregressive model, and back.

Codes are ``[K, F]`` (codebooks, frames), columns are ``[T, K]``. Under the delay pattern (MusicGen, Copet et al. 2023)
codebook k is shifted by k columns, so that a column's codebooks need not be predicted jointly; T = F + K - 1. A
flattened model says a frame's codes one after another instead, in columns of one codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wand.distillation.losses import IGNORE


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
    def columns_per_frame(self) -> int:
        """Columns that one frame takes."""
        return 1

    @property
    def rows_of_codes(self) -> int:
        """Rows of codes ``[rows, F]``: K, or the slots of a flattened frame."""
        return self.num_codebooks

    @property
    def flush_columns(self) -> int:
        """Columns beyond the frames, in which delayed codebooks end."""
        return self.num_codebooks - 1

    def columns_of(self, frames: int) -> int:
        """Columns that so many frames take."""
        return frames * self.columns_per_frame + self.flush_columns

    def frames_of(self, columns: int) -> int:
        """Complete frames in so many columns."""
        return max(0, columns - self.flush_columns) // self.columns_per_frame

    def whole_frames(self, window: int) -> int:
        """A window of at least so many columns that holds whole frames."""
        return -(-window // self.columns_per_frame) * self.columns_per_frame

    def allowed_rows(self, rows: int) -> Tensor | None:
        """Bool ``[columns_per_frame, V]``: what may be spoken in each column of a frame; None where all may."""
        return None

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
        frames = self.frames_of(len(columns))
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

    def settle(self, tokens: Tensor, steps: Tensor, frames: Tensor) -> Tensor:
        """Sampled tokens as the column that is fed back: filler where the delay leaves a place empty.

        Args:
            tokens: ``[B, K]`` sampled for each row's own speech column.
            steps: ``[B]`` index of that column.
            frames: ``[B]`` frames of rows that have stopped; a large number where a row has not.
        """
        delay = torch.arange(self.num_codebooks, device=tokens.device)
        empty = (steps[:, None] < delay) | (steps[:, None] >= frames[:, None] + delay)
        return tokens.masked_fill(empty, self.filler_id)


@dataclass(frozen=True, slots=True)
class FlattenedLayout(ColumnLayout):
    """A frame's codes one after another, each slot of the frame with rows of its own (Orpheus: 7 slots of 4096).

    Codes are ``[S, F]``: the codec's codebooks in order, those that have several codes a frame in the order of time.
    Rows of the vocabulary: the slots' codes in the order of speaking, then stop and others.

    Args:
        num_codebooks: 1.
        stop_id: Row that ends the speech.
        filler_id: Row of padding; never a label.
        sizes: Codes of every slot.
        codebooks: The codec's codebook that every slot speaks, such as ``(0, 1, 2, 2, 1, 2, 2)``.
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
        """The row of codes that each slot speaks."""
        by_codebook = sorted(range(len(self.codebooks)), key=lambda slot: (self.codebooks[slot], slot))
        return [by_codebook.index(slot) for slot in range(len(self.codebooks))]

    def to_columns(self, codes: Tensor) -> Tensor:
        """Codes ``[S, F]`` to columns ``[S * F, 1]``."""
        if len(codes) != len(self.sizes):
            raise ValueError(f"codes have {len(codes)} rows, a frame of this model has {len(self.sizes)} slots")
        spoken = codes[self._order] + torch.tensor(self._first_rows, device=codes.device)[:, None]
        return spoken.T.reshape(-1, 1)

    def from_columns(self, columns: Tensor) -> Tensor:
        """Columns ``[T, 1]`` to the codes of their complete frames ``[S, T // S]``."""
        slots = len(self.sizes)
        spoken = columns[: len(columns) // slots * slots, 0].view(-1, slots).T
        codes = spoken - torch.tensor(self._first_rows, device=columns.device)[:, None]
        by_row = torch.tensor(self._order, device=columns.device).argsort()
        return codes[by_row]

    def allowed_rows(self, rows: int) -> Tensor:
        """Every slot's own codes; rows that are no codes at the beginning of a frame."""
        allowed = torch.zeros(len(self.sizes), rows, dtype=torch.bool)
        for slot, (first, size) in enumerate(zip(self._first_rows, self.sizes, strict=True)):
            allowed[slot, first : first + size] = True
        allowed[0, sum(self.sizes) :] = True
        return allowed
