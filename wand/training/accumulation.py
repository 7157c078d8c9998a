"""Micro-batches of an optimiser step that count as one batch.

The loss of a step is a sum over labels, divided by their number. Under gradient accumulation that number is known only
after the last micro-batch. So the gradients are, at any time, those of the mean over the labels seen so far: before a
micro-batch adds its own, the earlier ones are multiplied by the share of their labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from wand.distillation.chunked import LossSums


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """What a step remembers of a micro-batch, on the device.

    Args:
        ids: The utterances of this rank.
        labels: Sum of the label weights on all ranks.
        sums: The losses of this rank, summed over labels, without gradients.
    """

    ids: tuple[str, ...]
    labels: Tensor
    sums: LossSums


class Accumulation:
    """The micro-batches of the current optimiser step. It starts empty.

    Attributes:
        parts: The micro-batches so far.
    """

    def __init__(self) -> None:
        self.parts: list[MicroBatch] = []
        self._labels: list[Tensor] = []  # sum of the label weights after each micro-batch

    def clear(self) -> None:
        """Start the next step."""
        self.parts, self._labels = [], []

    def add(self, part: MicroBatch) -> None:
        """Add a micro-batch, before its backward pass."""
        self.parts.append(part)
        self._labels.append(part.labels + self._labels[-1] if self._labels else part.labels)

    @property
    def labels(self) -> Tensor:
        """Sum of the label weights of all micro-batches and ranks, or 1 if there are no labels."""
        labels = self._labels[-1]
        return torch.where(labels > 0, labels, 1)

    @property
    def sums(self) -> LossSums:
        """The losses of this rank, summed over the labels of all micro-batches."""
        first, *others = (part.sums for part in self.parts)
        for other in others:
            first = LossSums(*(a + b for a, b in zip(first, other, strict=True)))
        return first

    def scale_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Make room for the gradients of the newest micro-batch. Call this before its backward pass.

        Args:
            parameters: Parameters with the gradients of the micro-batches before it. They are changed in place.
        """
        if len(self.parts) < 2:
            return
        share = self._labels[-2] / self.labels
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(share)
