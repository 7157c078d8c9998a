"""Heads: from the decoder's hidden states to the tokens of a column.

A head owns everything that depends on how the codebooks of a column are predicted: the loss, the logits that metrics
see, and the drawing of tokens. `LinearHead` predicts all codebooks at once; a depth decoder, which predicts each
codebook given those before it, is another subclass of `Head`.

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
    """Draws tokens under the rules of a decode."""

    def __call__(self, logits: Tensor, first: int = 0) -> Tensor:
        """Logits ``[B, n, V]`` of the codebooks ``first .. first + n - 1`` to tokens ``[B, n]``.

        Every step draws every codebook once, in order.
        """
        ...


class Head(ABC):
    """What predicts the tokens of a column from a hidden state."""

    @property
    @abstractmethod
    def weights(self) -> Sequence[Tensor]:
        """The tensors that one prediction reads and multiplies by."""

    @abstractmethod
    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Logits ``[..., K, V]``.

        Args:
            hidden: ``[..., D]``.
            columns: ``[..., K]``, the true tokens of the predicted column, for heads that predict a codebook given
                those before it.
        """

    @abstractmethod
    def loss(
        self, hidden: Tensor, labels: Tensor, label_weights: Tensor, terms: LossTerms, teacher: HeadInput | None = None
    ) -> LossSums:
        """The losses of `wand.distillation.losses`, summed over labels without ever holding the logits of a whole step.

        Args:
            hidden: ``[..., D]``; gradients flow into it and into the head.
            labels: ``[..., K]``, `IGNORE` where nothing is learned.
            label_weights: ``[..., K]``, the weight of every label.
            terms: The weights and settings of the loss.
            teacher: The teacher's head and its hidden states, without gradients; None leaves kd, kl and agreement
                at 0.
        """

    @abstractmethod
    def draw(self, hidden: Tensor, pick: Pick) -> Tensor:
        """Tokens ``[B, K]`` of the next column.

        Args:
            hidden: ``[B, D]``.
            pick: Draws from logits, under the rules of the decode.
        """

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Self:
        """The same head in another dtype."""


class LinearHead(Head):
    """All codebooks at once: ``logits[k] = weight[k] @ hidden + bias[k]``.

    Args:
        weight: ``[K, V, D]`` over the allowed rows.
        bias: ``[K, V]`` or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias

    @property
    def weights(self) -> Sequence[Tensor]:
        """Weight, and bias if there is one."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Logits ``[..., K, V]``; the column itself is not needed."""
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
        """See `Head.loss`; computed in chunks of rows.

        Under autocast the heads are multiplied in its dtype; losses and sums are float32.

        Args:
            hidden: ``[..., D]``; gradients flow into it and into the head.
            labels: ``[..., K]``, `IGNORE` where nothing is learned.
            label_weights: ``[..., K]``, the weight of every label.
            terms: The weights and settings of the loss.
            teacher: The teacher's head and its hidden states, without gradients.
            chunk: Rows at a time; chosen by the size of the head by default.
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
        """Tokens ``[B, K]``, all codebooks in one draw."""
        return pick(self.logits(hidden))

    def to(self, dtype: torch.dtype) -> LinearHead:
        """The same head in another dtype."""
        return LinearHead(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))


class HeadInput(NamedTuple):
    """A head and the hidden states that it reads: everything that a model's logits are made of.

    Args:
        hidden: ``[..., D]``.
        head: The model's.
    """

    hidden: Tensor
    head: Head

    def logits(self, columns: Tensor | None = None) -> Tensor:
        """Logits ``[..., K, V]``; see `Head.logits`."""
        return self.head.logits(self.hidden, columns)

    def rows(self, index: Tensor | slice) -> HeadInput:
        """Some rows along the first dimension of the hidden states."""
        return self._replace(hidden=self.hidden[index])

    def flattened(self) -> HeadInput:
        """All columns along one dimension: hidden states ``[N, D]``."""
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
        """Hand logits to a metric row by row: the logits of a whole batch would be its largest tensors.

        Args:
            labels: ``[B, T, K]``; hidden states here and in the teacher are ``[B, T, D]``.
            teacher: The teacher's; None without a teacher.
            measure: Called for every row.
        """
        for row in range(len(labels)):
            part = slice(row, row + 1)
            expected = None if teacher is None else teacher.rows(part).logits(labels[part])
            measure(self.rows(part).logits(labels[part]), labels[part], expected)
