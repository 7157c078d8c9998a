"""Heads predict the tokens of a column from a hidden state of the decoder.

A head implements everything that depends on how the codebooks of a column are predicted: the loss, the logits for
metrics, and sampling. `LinearHead` predicts all codebooks at once. A depth decoder, which predicts each codebook given
those before it, would be another subclass of `Head`.

Shapes: B rows, K codebooks, V rows of the speech vocabulary, D width. ``[..., D]`` is any number of columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional

from wand.distillation.chunked import LossSums, linear_distillation
from wand.distillation.terms import LossTerms

Measure = Callable[[Tensor, Tensor, Tensor | None], object]
"""Takes logits ``[..., K, V]``, labels ``[..., K]`` and the teacher's logits (or None)."""


class Pick(Protocol):
    """Samples tokens under the rules of a decode."""

    def __call__(self, logits: Tensor, first: int = 0) -> Tensor:
        """Sample tokens ``[B, n]`` from logits ``[B, n, V]`` of the codebooks ``first .. first + n - 1``.

        Each step must sample each codebook once, in order.
        """
        ...


class Head(ABC):
    """Predicts the tokens of a column from a hidden state."""

    @property
    @abstractmethod
    def weights(self) -> Sequence[Tensor]:
        """The weights that a prediction uses."""

    @abstractmethod
    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Logits ``[..., K, V]``.

        Args:
            hidden: ``[..., D]``.
            columns: ``[..., K]``, the true tokens of the predicted column, for heads that predict each codebook given
                those before it.
        """

    @abstractmethod
    def loss(
        self, hidden: Tensor, labels: Tensor, label_weights: Tensor, terms: LossTerms, teacher: HeadInput | None = None
    ) -> LossSums:
        """The losses of `wand.distillation.losses`, summed over labels, without storing the logits of a whole step.

        Args:
            hidden: ``[..., D]``; gradients flow into it and into the head.
            labels: ``[..., K]``, `IGNORE` for ignored positions.
            label_weights: ``[..., K]``, the weight of each label.
            terms: The weights and settings of the loss.
            teacher: Head and hidden states of the teacher, without gradients. If None, kd, kl and agreement are 0.
        """

    @abstractmethod
    def draw(self, hidden: Tensor, pick: Pick) -> Tensor:
        """Sample the tokens ``[B, K]`` of the next column.

        Args:
            hidden: ``[B, D]``.
            pick: Samples from logits under the rules of the decode.
        """

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Self:
        """The same head in another dtype."""


class LinearHead(Head):
    """Predicts all codebooks at once: ``logits[k] = weight[k] @ hidden + bias[k]``.

    Args:
        weight: ``[K, V, D]`` over the allowed rows.
        bias: ``[K, V]`` or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias

    @property
    def weights(self) -> Sequence[Tensor]:
        """The weight, and the bias if there is one."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Logits ``[..., K, V]``. `columns` is not used."""
        bias = None if self.bias is None else self.bias.flatten()
        return functional.linear(hidden, self.weight.flatten(0, 1), bias).unflatten(-1, self.weight.shape[:2])

    def loss(
        self,
        hidden: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        terms: LossTerms,
        teacher: HeadInput | None = None,
        chunk: int | None = None,
    ) -> LossSums:
        """See `Head.loss`. Computed in chunks of rows.

        Under autocast, logits are computed in the autocast dtype. Losses and sums are float32.

        Args:
            hidden: ``[..., D]``; gradients flow into it and into the head.
            labels: ``[..., K]``, `IGNORE` for ignored positions.
            label_weights: ``[..., K]``, the weight of each label.
            terms: The weights and settings of the loss.
            teacher: Head and hidden states of the teacher, without gradients. If None, kd, kl and agreement are 0.
            chunk: Rows per chunk; depends on the size of the head by default.
        """
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        labels = labels.flatten(0, -2)
        expected = None if teacher is None else teacher.flattened().to(dtype)
        return linear_distillation(
            hidden.flatten(0, -2),
            self.weight,
            self.bias,
            labels,
            label_weights.flatten(0, -2),
            terms,
            None if expected is None else lambda rows: expected.rows(rows).logits(labels[rows]),
            chunk,
            dtype,
        )

    def draw(self, hidden: Tensor, pick: Pick) -> Tensor:
        """Sample the tokens ``[B, K]`` of all codebooks at once."""
        return pick(self.logits(hidden))

    def to(self, dtype: torch.dtype) -> LinearHead:
        """The same head in another dtype."""
        return LinearHead(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))


class HeadInput(NamedTuple):
    """A head and its input. Together they define the logits of a model.

    Args:
        hidden: ``[..., D]``.
        head: Head of the model.
    """

    hidden: Tensor
    head: Head

    def logits(self, columns: Tensor | None = None) -> Tensor:
        """Logits ``[..., K, V]``; see `Head.logits`."""
        return self.head.logits(self.hidden, columns)

    def rows(self, index: Tensor | slice) -> HeadInput:
        """Select rows along the first dimension of the hidden states."""
        return self._replace(hidden=self.hidden[index])

    def flattened(self) -> HeadInput:
        """Flatten the hidden states to ``[N, D]``."""
        return self._replace(hidden=self.hidden.flatten(0, -2))

    def to(self, dtype: torch.dtype) -> HeadInput:
        """The same in another dtype."""
        return HeadInput(self.hidden.to(dtype), self.head.to(dtype))

    def loss(
        self, labels: Tensor, label_weights: Tensor, terms: LossTerms, teacher: HeadInput | None = None
    ) -> LossSums:
        """See `Head.loss`."""
        return self.head.loss(self.hidden, labels, label_weights, terms, teacher)

    def measure(self, labels: Tensor, teacher: HeadInput | None, measure: Measure) -> None:
        """Pass logits to a metric row by row, because the logits of a whole batch would need much memory.

        Args:
            labels: ``[B, T, K]``. Hidden states, here and in the teacher, must be ``[B, T, D]``.
            teacher: Head and hidden states of the teacher; None without a teacher.
            measure: Called once for each row.
        """
        for row in range(len(labels)):
            part = slice(row, row + 1)
            expected = None if teacher is None else teacher.rows(part).logits(labels[part])
            measure(self.rows(part).logits(labels[part]), labels[part], expected)
