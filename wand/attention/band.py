"""Hard prefix + window attention in blocks: exact, on any device, with work and memory linear in the speech length.

Prefix columns are computed by a separate, small causal attention. Speech columns are cut into blocks. The logits of a
block come from two matrix products and share one softmax: one product with the prefix keys, and one with the stretch of
speech keys that contains the windows of all queries of the block. The query heads of a group become rows of one
product, so keys and values are not repeated. Left padding is not computed. The backward pass recomputes the
probabilities instead of storing them.

Shapes: B rows, S = P + T columns, H query heads, G key/value heads, D the width of a head. In one row: p real prefix
columns, n rows of a product (the columns of a piece times H / G), C columns of a block, L columns of its stretch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from wand.attention.dense import dense_attention

# C. Larger blocks make larger products, but every query is multiplied with C - 1 keys that it does not see.
BLOCK = 32
# p + L is rounded up to a multiple of this. For vector units, a remainder costs more than the added keys.
ALIGNMENT = 16
# Size of the logits that one CPU thread computes at a time, in bytes. They should fit in its cache.
PIECE_BYTES = 2**20


def band_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    size: int,
    boundary: int,
    starts: Tensor | None = None,
    prefix_mask: Tensor | None = None,
    scaling: float | None = None,
) -> Tensor:
    """Attention of all columns under a hard window (WAND, section 2), in blocks.

    Args:
        query: ``[B, H, S, D]``.
        key: ``[B, G, S, D]``, G a divisor of H.
        value: ``[B, G, S, D]``.
        size: W, the number of speech columns that a speech column sees, including its own.
        boundary: P, the column where speech starts.
        starts: ``[B]`` first real column of every row, at most P; None when no row is padded.
        prefix_mask: ``[B, 1, P, P]`` mask of the prefix columns; None is plain causal, for rows without padding.
        scaling: Factor of the logits; ``D ** -0.5`` by default.

    Returns:
        ``[B, S, H, D]``.
    """
    assert (starts is None) == (prefix_mask is None)
    speech_columns = query.shape[2] - boundary
    prefix_query, speech_query = query.split([boundary, speech_columns], dim=2)
    prefix_key, speech_key = key.split([boundary, speech_columns], dim=2)
    prefix_value, speech_value = value.split([boundary, speech_columns], dim=2)
    prefix = dense_attention(prefix_query, prefix_key, prefix_value, prefix_mask, scaling)
    if speech_columns == 0:
        return prefix
    first_real = [0] * len(query) if starts is None else starts.tolist()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    speech = _SpeechAttention.apply(
        speech_query, prefix_key, speech_key, prefix_value, speech_value, size, first_real, scale
    )
    return torch.cat([prefix, speech], dim=1)


class _Piece(NamedTuple):
    """Blocks that are computed together."""

    first: int
    """First speech column of the first block."""
    blocks: int
    width: int
    """Columns of a block: C, or fewer in the last piece."""

    @property
    def columns(self) -> slice:
        return slice(self.first, self.first + self.blocks * self.width)


class _Columns:
    """Keys, values, or gradients of either, of one row, with the products of a piece.

    Args:
        prefix: ``[G, p, D]``.
        speech: ``[G, back + T, D]``. The first `back` columns are zeros.
        back: Number of columns of a stretch before its block.
    """

    def __init__(self, prefix: Tensor, speech: Tensor, back: int) -> None:
        self.prefix = prefix
        self.speech = speech
        self.back = back

    def wide(self) -> _Columns:
        """The same in at least float32."""
        return _Columns(_wide(self.prefix), _wide(self.speech), self.back)

    def zeros_like(self) -> _Columns:
        """Zeros of the same shape, to sum the gradients of all pieces."""
        return _Columns(torch.zeros_like(self.prefix), torch.zeros_like(self.speech), self.back)

    def logits(self, rows: Tensor, piece: _Piece, scale: float = 1.0, bias: Tensor | None = None) -> Tensor:
        """Products ``[G, n, p + L]`` of ``[G, n, D]`` with all columns; `bias` ``[C, 1, L]`` is for the stretch."""
        stretches = self._stretches(piece)
        prefix, length = self.prefix.shape[1], stretches.shape[1]
        made = rows.new_empty(*rows.shape[:2], prefix + length)
        torch.baddbmm(made[..., :prefix], rows, self.prefix.mT, beta=0, alpha=scale, out=made[..., :prefix])
        blocks = rows.view(len(stretches), -1, rows.shape[2])
        near = torch.baddbmm(rows.new_empty(()), blocks, stretches.mT, beta=0, alpha=scale)
        near = near.view(len(rows), piece.blocks, piece.width, -1, length)
        target = made[..., prefix:].view_as(near)
        if bias is None:
            target.copy_(near)
        else:
            torch.add(near, bias, out=target)
        return made

    def mix(self, weights: Tensor, piece: _Piece) -> Tensor:
        """Sums ``[G, n, D]`` of the columns, weighted by ``[G, n, p + L]``."""
        near = torch.bmm(self._near(weights, piece), self._stretches(piece))
        mixed = near.view(*weights.shape[:2], -1)
        return mixed.baddbmm_(weights[..., : self.prefix.shape[1]], self.prefix)

    def add_(self, weights: Tensor, rows: Tensor, piece: _Piece) -> None:
        """Add the rows ``[G, n, D]``, weighted by ``[G, n, p + L]``, to the columns."""
        self.prefix.add_(torch.bmm(weights[..., : self.prefix.shape[1]].mT, rows))
        near = self._near(weights, piece)
        parts = torch.bmm(near.mT, rows.view(len(near), -1, rows.shape[2]))
        parts = parts.view(len(rows), piece.blocks, -1, rows.shape[2])
        # Stretches overlap, so add them in parts of C columns, which do not overlap.
        for offset in range(0, parts.shape[2], piece.width):
            part = parts[:, :, offset : offset + piece.width]
            target = self.speech[:, piece.first + offset :].unfold(1, part.shape[2], piece.width)
            target[:, : piece.blocks].mT.add_(part)

    def _stretches(self, piece: _Piece) -> Tensor:
        """``[G * blocks, L, D]``."""
        columns = self.speech[:, piece.first : piece.columns.stop + self.back]
        return columns.unfold(1, self.back + piece.width, piece.width).mT.flatten(0, 1)

    def _near(self, weights: Tensor, piece: _Piece) -> Tensor:
        """The weights of the stretches: ``[G * blocks, n / blocks, L]``."""
        near = weights[..., self.prefix.shape[1] :]
        return near.reshape(len(weights) * piece.blocks, -1, near.shape[-1])


class _Row:
    """Keys and values of one row; computes the probabilities of its speech columns.

    Args:
        keys: Keys of the prefix ``[G, p, D]`` and of the speech ``[G, T, D]``.
        values: Values of the prefix and of the speech, with the same shapes.
        size: W.
        scale: Factor of the logits.
    """

    def __init__(self, keys: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], size: int, scale: float) -> None:
        prefix, self.length = (columns.shape[1] for columns in keys)
        needed = prefix + BLOCK + min(size, self.length) - 1
        back = math.ceil(needed / ALIGNMENT) * ALIGNMENT - prefix - BLOCK
        self.keys, self.values = (
            _Columns(fixed, pad(speech, (0, 0, back, 0)), back) for fixed, speech in (keys, values)
        )
        # Rounding a logit of 16 to bfloat16 would change its weight by 6 %. Other kernels too round all other values.
        self.wide_keys = self.keys.wide()
        self.scale = scale
        query = torch.arange(back, back + BLOCK, device=keys[0].device)
        distance = query[:, None, None] - torch.arange(back + BLOCK, device=keys[0].device)
        hidden = (distance < 0) | (distance >= size)
        self.bias = self.wide_keys.prefix.new_zeros(hidden.shape).masked_fill_(hidden, -math.inf)

    def pieces(self, heads: int) -> Iterator[_Piece]:
        """The pieces of the speech, in order: as many blocks as the CPU cache holds, then the remaining columns."""
        blocks, left = divmod(self.length, BLOCK)
        step = max(1, blocks)
        if self.bias.device.type == "cpu":
            logits = heads * BLOCK * (self.keys.prefix.shape[1] + self.bias.shape[-1])
            step = max(1, PIECE_BYTES * torch.get_num_threads() // (logits * self.bias.itemsize))
        for i in range(0, blocks, step):
            yield _Piece(i * BLOCK, min(step, blocks - i), BLOCK)
        if left:
            yield _Piece(blocks * BLOCK, 1, left)

    def probabilities(self, rows: Tensor, piece: _Piece) -> Tensor:
        """Probabilities ``[G, n, p + L]`` of queries ``[G, n, D]``."""
        back = self.keys.back
        bias = self.bias[: piece.width, :, : back + piece.width]
        logits = self.wide_keys.logits(_wide(rows), piece, self.scale, bias)
        near = logits[..., self.keys.prefix.shape[1] :].unflatten(1, (piece.blocks, -1))
        # The first stretches begin before the speech.
        for block in range(piece.blocks):
            missing = back - piece.first - block * piece.width
            if missing <= 0:
                break
            near[:, block, :, :missing] = -math.inf
        return torch.softmax(logits, dim=-1, out=logits).to(rows.dtype)


class _SpeechAttention(torch.autograd.Function):
    """Attention of the speech columns: ``[B, H, T, D]`` to ``[B, T, H, D]``."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, *inputs: Any) -> Tensor:
        *columns, size, starts, scale = inputs
        ctx.save_for_backward(query, *columns)
        ctx.settings = size, starts, scale
        groups = columns[0].shape[1]
        output = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        for b, row in _rows(columns, *ctx.settings):
            for piece in row.pieces(query.shape[1]):
                weights = row.probabilities(_grouped(query[b], piece, groups), piece)
                output[b, piece.columns] = _ungrouped(row.values.mix(weights, piece), piece)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, *columns = ctx.saved_tensors
        size, starts, scale = ctx.settings
        groups = columns[0].shape[1]
        grad_query = torch.empty_like(grad_output)
        grads = [torch.zeros_like(tensor) for tensor in columns]
        for b, row in _rows(columns, size, starts, scale):
            grad_keys, grad_values = row.wide_keys.zeros_like(), row.wide_keys.zeros_like()
            for piece in row.pieces(query.shape[1]):
                rows = _grouped(query[b], piece, groups)
                grad_rows = _grouped(grad_output[b].transpose(0, 1), piece, groups)
                weights = row.probabilities(rows, piece)
                grad_values.add_(weights, grad_rows, piece)
                grad_weights = row.values.logits(grad_rows, piece)
                slope = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype).mul_(scale)
                grad_keys.add_(slope, rows, piece)
                grad_query[b, piece.columns] = _ungrouped(row.keys.mix(slope, piece), piece)
            back = row.keys.back
            made = grad_keys.prefix, grad_keys.speech[:, back:], grad_values.prefix, grad_values.speech[:, back:]
            for grad, part in zip(grads, made, strict=True):
                grad[b, :, grad.shape[2] - part.shape[1] :] = part
        return grad_query.transpose(1, 2), *grads, None, None, None


def _rows(columns: list[Tensor], size: int, starts: list[int], scale: float) -> Iterator[tuple[int, _Row]]:
    prefix_key, speech_key, prefix_value, speech_value = columns
    for b, start in enumerate(starts):
        keys = prefix_key[b, :, start:], speech_key[b]
        values = prefix_value[b, :, start:], speech_value[b]
        yield b, _Row(keys, values, size, scale)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _grouped(heads: Tensor, piece: _Piece, groups: int) -> Tensor:
    """The columns of a piece of ``[H, T, D]`` as the rows ``[G, n, D]`` of a product."""
    return heads[:, piece.columns].unflatten(0, (groups, -1)).transpose(1, 2).flatten(1, 2).contiguous()


def _ungrouped(rows: Tensor, piece: _Piece) -> Tensor:
    """The rows ``[G, n, D]`` of a product as columns: ``[columns of the piece, H, D]``."""
    return rows.unflatten(1, (piece.blocks * piece.width, -1)).transpose(0, 1).flatten(1, 2)
