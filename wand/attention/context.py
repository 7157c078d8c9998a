"""The attention context of a forward pass over ``prefix | speech`` columns: window, boundary, padding and masks.

Shapes: B rows, S = P + T columns, H query heads, G key/value heads, D the width of a head.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wand.attention.band import band_attention
from wand.attention.dense import dense_attention
from wand.attention.dispatch import Kernel, choose_kernel
from wand.attention.flex import FlexProgram, flex_attention_under, make_program
from wand.attention.window import AttentionWindow, Windows


class AttentionContext:
    """Computes the attention of every layer; passed to the model as ``attention_context``.

    The settings do not change after creation, because the recomputation of gradient checkpointing uses the same object.
    Masks are made on first use, in the form that the kernel takes, and layers with the same window share them. This is
    a plain class, because FSDP2 rebuilds dataclass inputs and casts their tensors.

    Args:
        windows: The windows of the layers.
        boundary: P, the column where speech starts, the same for every row. Prefixes are left-padded.
        starts: ``[B]`` first real column of every row, or None when no row is padded.
        kernel: The kernel that computes the attention; ``auto`` chooses the fastest. All kernels give the same result.

    Raises:
        ValueError: If the boundary is negative, or the kernel cannot compute these windows.
    """

    def __init__(
        self,
        windows: Windows,
        boundary: int,
        starts: Tensor | None = None,
        kernel: Literal["auto"] | Kernel = "auto",
    ) -> None:
        if boundary < 0:
            raise ValueError(f"boundary {boundary} is negative: it is the number of prefix columns")
        if kernel == "band" and (windows.is_full or windows.tau is not None):
            raise ValueError(f"kernel band computes hard windows only, not {windows}: use dense, flex or auto")
        self.windows = windows
        self.boundary = boundary
        self.starts = starts
        self.kernel = kernel
        self._by_window: dict[AttentionWindow, _OneWindow] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """Attention of all columns in one layer.

        Args:
            layer: Index of the layer.
            query: ``[B, H, S, D]``.
            key: ``[B, G, S, D]``, G a divisor of H.
            value: ``[B, G, S, D]``.
            scaling: Factor of the logits; ``D ** -0.5`` by default.

        Returns:
            ``[B, S, H, D]``.
        """
        query, key, value = _autocast(query, key, value)
        kernel, own = self.kernel, self._at(layer)
        if kernel == "auto" and value.shape[3] != query.shape[3]:
            kernel = "dense"
        elif kernel == "auto":
            kernel = choose_kernel(query, own.window, self.boundary, self.starts is not None)
        if kernel == "flex":
            return own.flex(query, key, value, scaling)
        if kernel == "band":
            return own.band(query, key, value, scaling)
        return own.dense(query, key, value, scaling)

    def visible(self, columns: int, device: torch.device, layer: int = 0) -> Tensor:
        """Bool ``[1 or B, S, S]``, queries by keys: whether a query sees a key under the hard mask."""
        return self._at(layer).visible(columns, device)

    def mask(self, columns: int, device: torch.device, bias_dtype: torch.dtype | None = None, layer: int = 0) -> Tensor:
        """The mask of a layer, in the form that scaled-dot-product attention takes.

        Args:
            columns: S.
            device: The device of the mask.
            bias_dtype: Dtype of the additive bias of a soft mask; None returns the hard mask as bool.
            layer: Index of the layer.

        Returns:
            ``[1 or B, 1, S, S]``: bool (True = seen), or the bias: 0 in view, -tau outside the window, -inf unseen.
        """
        return self._at(layer).mask(columns, device, bias_dtype)

    def _at(self, layer: int) -> _OneWindow:
        window = self.windows.of(layer)
        if window not in self._by_window:
            self._by_window[window] = _OneWindow(window, self.boundary, self.starts)
        return self._by_window[window]


class _OneWindow:
    """The kernels for one window, and their masks."""

    def __init__(self, window: AttentionWindow, boundary: int, starts: Tensor | None) -> None:
        self.window = window
        self.boundary = boundary
        self.starts = starts
        self._masks: dict[tuple[int, torch.device, torch.dtype | None], Tensor] = {}
        self._programs: dict[tuple[int, int, torch.device], FlexProgram] = {}

    def dense(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        if self.window.is_full and self.starts is None:
            return dense_attention(query, key, value, None, scaling)
        bias_dtype = None if self.window.tau is None else query.dtype
        return dense_attention(query, key, value, self.mask(query.shape[2], query.device, bias_dtype), scaling)

    def band(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        assert self.window.size is not None
        return band_attention(
            query,
            key,
            value,
            size=self.window.size,
            boundary=self.boundary,
            starts=self.starts,
            prefix_mask=None if self.starts is None else self.mask(self.boundary, query.device),
            scaling=scaling,
        )

    def flex(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        rows, columns = query.shape[0], query.shape[2]
        made = self._programs.get((rows, columns, query.device))
        if made is None:
            made = make_program(self.window, self.boundary, self.starts, rows, columns, query.device)
            self._programs[rows, columns, query.device] = made
        return flex_attention_under(made, query, key, value, scaling)

    def mask(self, columns: int, device: torch.device, bias_dtype: torch.dtype | None = None) -> Tensor:
        made = self._masks.get((columns, device, bias_dtype))
        if made is None:
            made = self._make_mask(columns, device, bias_dtype)[:, None]
            self._masks[columns, device, bias_dtype] = made
        return made

    def visible(self, columns: int, device: torch.device) -> Tensor:
        query = torch.arange(columns, device=device)[:, None]
        key = torch.arange(columns, device=device)[None, :]
        seen = key <= query
        if self.window.size is not None:
            seen = seen & ~self._outside(query, key)
        return self._without_padding(seen[None])

    def _make_mask(self, columns: int, device: torch.device, bias_dtype: torch.dtype | None) -> Tensor:
        if bias_dtype is None:
            return self.visible(columns, device)
        query = torch.arange(columns, device=device)[:, None]
        key = torch.arange(columns, device=device)[None, :]
        causal = self._without_padding((key <= query)[None])
        bias = torch.zeros(causal.shape, dtype=bias_dtype, device=device)
        if self.window.tau is not None:
            bias.masked_fill_(self._outside(query, key), -self.window.tau)
        return bias.masked_fill_(~causal, float("-inf"))

    def _outside(self, query: Tensor, key: Tensor) -> Tensor:
        """Speech keys that are older than the window of a speech query."""
        assert self.window.size is not None
        return (key >= self.boundary) & (key <= query - self.window.size)

    def _without_padding(self, seen: Tensor) -> Tensor:
        if self.starts is None:
            return seen
        real = torch.arange(seen.shape[-1], device=seen.device)[None] >= self.starts.to(seen.device)[:, None]
        # A padding column sees itself, so that no row of the softmax is empty.
        own = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
        return seen & (real[:, None, :] | own)


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast to the autocast dtype, if autocast is on: rotary embeddings may return float32 queries and keys."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
