"""Layers of a causal EnCodec decoder that keep state between calls, to decode in chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Padding modes with which the beginning of an utterance depends only on its first frames.
PAD_MODES = ("constant", "reflect")


def with_state(layer: nn.Module, pad_mode: str) -> Callable[[Tensor], Tensor]:
    """Wrap a layer of EnCodec's decoder so that a call continues the last one: ``[B, C, T]`` to ``[B, C', T']``.

    In transformers and in the package `encodec`, a layer is a residual block with the attributes `block` and
    `shortcut`, a wrapper around one convolution or LSTM, or a function of each sample.
    """
    if hasattr(layer, "block"):
        return _Residual(layer, pad_mode)
    for inner in layer.modules():
        match inner:
            case nn.Conv1d():
                return _Convolution(inner, pad_mode)
            case nn.ConvTranspose1d():
                return _Upsampling(inner)
            case nn.LSTM():
                return _Recurrence(inner)
    return layer


class _Convolution:
    """A convolution that keeps the last inputs, which its next call needs. The first call pads."""

    def __init__(self, conv: nn.Conv1d, pad_mode: str) -> None:
        assert conv.stride[0] == 1, "convolutions of a decoder have stride 1"
        self.conv, self.pad_mode, self.reach = conv, pad_mode, _reach(conv)
        self.seen: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        if self.seen is None:
            hidden = nn.functional.pad(hidden, (self.reach, 0), self.pad_mode)
        else:
            hidden = torch.cat([self.seen, hidden], dim=-1)
        self.seen = hidden[..., hidden.shape[-1] - self.reach :].clone()
        return self.conv(hidden)


class _Upsampling:
    """A transposed convolution that keeps the end of its output, to which the next call adds."""

    def __init__(self, conv: nn.ConvTranspose1d) -> None:
        assert conv.bias is not None
        self.conv, self.bias, self.stride = conv, conv.bias, conv.stride[0]
        self.beyond: Tensor | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        length = hidden.shape[-1] * self.stride
        made = self.conv(hidden)
        if self.beyond is not None:
            made[..., : self.beyond.shape[-1]] += self.beyond
        self.beyond = made[..., length:] - self.bias[:, None]  # the next call adds the bias again
        return made[..., :length]


class _Recurrence:
    """An LSTM that keeps its state. Its input is added to its output."""

    def __init__(self, lstm: nn.LSTM) -> None:
        self.lstm = lstm
        self.state: tuple[Tensor, Tensor] | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        steps = hidden.permute(2, 0, 1)
        made, self.state = self.lstm(steps, self.state)
        return (made + steps).permute(1, 2, 0)


class _Residual:
    """A residual block whose layers keep state."""

    def __init__(self, layer: nn.Module, pad_mode: str) -> None:
        self.block = [with_state(inner, pad_mode) for inner in layer.get_submodule("block").children()]
        self.shortcut = with_state(layer.get_submodule("shortcut"), pad_mode)

    def __call__(self, hidden: Tensor) -> Tensor:
        kept = self.shortcut(hidden)
        for layer in self.block:
            hidden = layer(hidden)
        return kept + hidden


def _reach(conv: nn.Conv1d) -> int:
    """Number of earlier inputs that an output of a convolution depends on."""
    return (conv.kernel_size[0] - 1) * conv.dilation[0]


def reflected_frames(layers: nn.Module) -> int:
    """Number of frames that reflection padding needs before the first call of all convolutions."""
    needed, upsampled = 1, 1
    for layer in layers.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            upsampled *= layer.stride[0]
        elif isinstance(layer, nn.Conv1d):
            needed = max(needed, _reach(layer) // upsampled + 1)
    return needed
