"""Conditioning and batches. Training and decoding use the same layout.

The layout is ``prefix, left-padded | speech, right-padded``. Speech starts at the same column P in every row.
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
"""The conditioning of one utterance: tensors by names that the adapter chooses."""


class Conditioner(Protocol):
    """Turns text and reference into tensors, for preparation, training and synthesis. Must be picklable."""

    @property
    def fingerprint(self) -> str:
        """Short digest of everything that determines the tensors. Shards store it, to detect another conditioner."""
        ...

    def __call__(self, text: str, reference: Reference) -> Conditioning:
        """The conditioning of one utterance.

        Raises:
            ValueError: If the text is empty or has characters that the tokenizer does not know.
        """
        ...

    def length(self, conditioning: Conditioning) -> int:
        """Number of prefix columns of one conditioning."""
        ...

    def collate(self, conditionings: Sequence[Conditioning], prefix_length: int) -> Conditioning:
        """Batch the conditionings of B rows. Tensors with one entry per prefix column are left-padded to P columns."""
        ...


@dataclass
class ConditionedBatch:
    """A batch: conditioning, speech columns and labels. It is mutable, because Lightning moves its tensors.

    The logits of column P - 1 + i predict ``labels[:, i]``: the columns y_1 ... y_T, then the stop.

    Args:
        conditioning: Tensors of the adapter, batched by its conditioner.
        prefix_length: P, the column where speech starts.
        prefix_lengths: ``[B]`` number of real prefix columns of each row.
        columns: Speech columns ``[B, T, K]``, right-padded.
        lengths: ``[B]`` number of real speech columns of each row.
        labels: ``[B, T + 1, K]``, -100 for ignored positions.
        padded: Whether any prefix is padded. Kept on the host, so that reading it does not wait for the device.
        ids: Ids of the utterances, for messages; empty if they have none.
        offsets: ``[B]`` index of the first speech column of each row since the text of its prefix began to be spoken;
            None if all are 0.
    """

    conditioning: Conditioning
    prefix_length: int
    prefix_lengths: Tensor
    columns: Tensor
    lengths: Tensor
    labels: Tensor
    padded: bool
    ids: tuple[str, ...] = ()
    offsets: Tensor | None = None

    @property
    def starts(self) -> Tensor:
        """``[B]`` first real column of each row."""
        return self.prefix_length - self.prefix_lengths

    @property
    def first_columns(self) -> Tensor:
        """``[B]`` `offsets`, or zeros."""
        return torch.zeros_like(self.prefix_lengths) if self.offsets is None else self.offsets

    @property
    def padded_starts(self) -> Tensor | None:
        """`starts`, or None when no prefix is padded, so that attention needs no padding mask."""
        return self.starts if self.padded else None

    def __len__(self) -> int:
        return self.columns.shape[0]

    def to(self, device: torch.device | str) -> ConditionedBatch:
        """Copy the batch to a device. Copies from pinned memory to a GPU are asynchronous."""
        waits = torch.device(device).type != "cuda"  # a copy from a GPU must be waited for
        return self._map(lambda tensor: tensor.to(device, non_blocking=not waits))

    def pin_memory(self) -> ConditionedBatch:
        """Copy the batch to pinned memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> ConditionedBatch:
        return replace(
            self,
            conditioning={name: change(tensor) for name, tensor in self.conditioning.items()},
            prefix_lengths=change(self.prefix_lengths),
            columns=change(self.columns),
            lengths=change(self.lengths),
            labels=change(self.labels),
            offsets=None if self.offsets is None else change(self.offsets),
        )


def make_batch(
    conditioner: Conditioner,
    layout: ColumnLayout,
    conditionings: Sequence[Conditioning],
    codes: Sequence[Tensor] | None = None,
    prefix_length: int | None = None,
    ids: Sequence[str] = (),
) -> ConditionedBatch:
    """Make a batch of B utterances whose speech starts at the same column.

    Args:
        conditioner: Conditioner of the adapter.
        layout: Column layout of the adapter.
        conditionings: Conditioning of each row.
        codes: Codes ``[K, F]`` of each row; None for synthesis.
        prefix_length: P; the length of the longest prefix by default.
        ids: Ids of the utterances, for messages.
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
        ids=tuple(ids),
    )


def left_pad(tensors: Sequence[Tensor], length: int, value: int = 0) -> Tensor:
    """Stack tensors ``[L_b, ...]`` into ``[B, length, ...]``, with padding on the left."""
    batch = tensors[0].new_full((len(tensors), length, *tensors[0].shape[1:]), value)
    for row, tensor in enumerate(tensors):
        batch[row, length - len(tensor) :] = tensor
    return batch
