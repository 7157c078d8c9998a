"""What speech is conditioned on, and the one layout that training and decoding share.

``prefix LEFT-padded | speech RIGHT-padded``: the boundary is the same column P for every row of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from wand.codecs.reference import Reference
from wand.distillation.losses import IGNORE
from wand.model.columns import ColumnLayout

Conditioning = dict[str, Tensor]
"""Tensors of one utterance's conditioning, by names that the adapter chooses."""


class Conditioner(Protocol):
    """Turns text and reference into tensors; picklable, and the same for preparation, batches and synthesis."""

    @property
    def fingerprint(self) -> str:
        """Short digest of everything that determines the tensors; shards carry it and refuse another's."""
        ...

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """The conditioning of one utterance.

        Raises:
            ValueError: If the text is empty or holds what the tokenizer lacks.
        """
        ...

    def length(self, conditioning: Conditioning) -> int:
        """Prefix columns that one conditioning takes."""
        ...

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """Conditionings of B rows as one batch, left-padded to P columns where that applies."""
        ...


@dataclass
class ConditionedBatch:
    """One batch: conditioning, speech columns, labels (mutable, since Lightning moves its tensors).

    Logits of column P - 1 + i are held against ``labels[:, i]``: y_1 ... y_T, then the stop.

    Args:
        conditioning: The adapter's tensors, batched by its conditioner.
        prefix_length: P, the boundary column.
        prefix_lengths: ``[B]`` real prefix columns of each row.
        columns: Speech columns ``[B, T, K]``, right-padded.
        lengths: ``[B]`` real speech columns of each row.
        labels: ``[B, T + 1, K]``, -100 where nothing is learned.
        padded: Whether any prefix is padded; known here, so that no device has to be asked.
    """

    conditioning: Conditioning
    prefix_length: int
    prefix_lengths: Tensor
    columns: Tensor
    lengths: Tensor
    labels: Tensor
    padded: bool

    @property
    def starts(self) -> Tensor:
        """``[B]`` first real column of each row."""
        return self.prefix_length - self.prefix_lengths

    @property
    def padded_starts(self) -> Tensor | None:
        """`starts`, or None when no prefix is padded (attention then needs no mask for it)."""
        return self.starts if self.padded else None

    def __len__(self) -> int:
        return self.columns.shape[0]

    def to(self, device: torch.device | str) -> ConditionedBatch:
        """The same batch on a device; a copy from pinned memory to a GPU does not wait."""
        waits = torch.device(device).type != "cuda"  # a copy from a GPU is not there before it is waited for
        return self._map(lambda tensor: tensor.to(device, non_blocking=not waits))

    def pin_memory(self) -> ConditionedBatch:
        """The same batch in pinned memory of the current GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> ConditionedBatch:
        return replace(
            self,
            conditioning={name: change(tensor) for name, tensor in self.conditioning.items()},
            prefix_lengths=change(self.prefix_lengths),
            columns=change(self.columns),
            lengths=change(self.lengths),
            labels=change(self.labels),
        )


def make_batch(
    conditioner: Conditioner,
    layout: ColumnLayout,
    conditionings: Sequence[Conditioning],
    codes: Sequence[Tensor] | None = None,
    prefix_length: int | None = None,
) -> ConditionedBatch:
    """Align B utterances at one boundary.

    Args:
        conditioner: The adapter's.
        layout: The adapter's.
        conditionings: One per row.
        codes: ``[K, F]`` per row; None for synthesis, where speech is yet to come.
        prefix_length: P; that of the longest prefix by default.
    """
    rows = len(conditionings)
    if codes is None:
        codes = [torch.zeros(layout.num_codebooks, 0, dtype=torch.long)] * rows
        columns = [torch.zeros(0, layout.num_codebooks, dtype=torch.long)] * rows
        labels = [torch.full((1, layout.num_codebooks), IGNORE)] * rows
    else:
        columns = [layout.to_columns(c.long()) for c in codes]
        labels = [layout.labels(c) for c in columns]
    prefix_lengths = torch.tensor([conditioner.length(c) for c in conditionings])
    prefix_length = int(prefix_lengths.max()) if prefix_length is None else prefix_length
    return ConditionedBatch(
        conditioning=conditioner.collate(conditionings, prefix_length),
        prefix_length=prefix_length,
        prefix_lengths=prefix_lengths,
        columns=torch.nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=layout.filler_id),
        lengths=torch.tensor([len(c) for c in columns]),
        labels=torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        padded=int(prefix_lengths.min()) < prefix_length,
    )


def left_pad(tensors: Sequence[Tensor], length: int, value: int = 0) -> Tensor:
    """Stack ``[L_b, ...]`` tensors into ``[B, length, ...]``, each moved to the right edge."""
    batch = tensors[0].new_full((len(tensors), length, *tensors[0].shape[1:]), value)
    for row, tensor in enumerate(tensors):
        batch[row, length - len(tensor) :] = tensor
    return batch
