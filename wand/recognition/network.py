"""A small convolutional CTC network from log mel spectra to letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers.audio_utils import mel_filter_bank

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
BLANK = len(LETTERS)
SAMPLE_RATE = 16_000
N_FFT = 512
HOP = 160


@dataclass(frozen=True)
class RecogniserShape:
    """Shape of a `RecogniserNetwork`.

    Args:
        mels: Mel bands.
        width: Channels of the trunk, which runs at 25 frames per second.
        layers: Number of residual blocks.
        kernel: Kernel size of a block's convolution, in frames.
    """

    mels: int = 64
    width: int = 224
    layers: int = 8
    kernel: int = 9


class LogMel(nn.Module):
    """Log mel energies ``[B, N // 160 + 1, mels]`` of 16 kHz audio ``[B, N]``, at 100 frames per second.

    Args:
        mels: Number of bands from 0 to 8 kHz (HTK's scale).
    """

    filters: Tensor
    taper: Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.register_buffer("filters", mel_filters(mels), persistent=False)
        self.register_buffer("taper", torch.hann_window(400), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Log energies with a floor 80 dB below a full-scale sine."""
        spectrum = torch.stft(audio, N_FFT, HOP, 400, self.taper, center=True, pad_mode="constant", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power.transpose(1, 2) @ self.filters + 1e-4)


def mel_filters(mels: int) -> Tensor:
    """Triangular filters ``[N_FFT // 2 + 1, mels]``."""
    filters = mel_filter_bank(N_FFT // 2 + 1, mels, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm=None, mel_scale="htk")
    return torch.from_numpy(filters).float()


class Block(nn.Module):
    """Depthwise convolution over time, then a two-layer mixing of channels, with a residual (ConvNeXt, 2022)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, present: Tensor) -> Tensor:
        """Map ``[B, T, width]`` to the same shape; `present` ``[B, T, 1]`` is 0 after the end of a row."""
        mixed = self.depthwise((hidden * present).transpose(1, 2)).transpose(1, 2)
        return hidden + self.contract(functional.gelu(self.expand(self.norm(mixed))))


class RecogniserNetwork(nn.Module):
    """Maps audio to log probabilities of letters and blank, at 50 steps per second.

    The trunk runs at 25 frames per second. Each of its frames gives two output steps.

    Args:
        shape: Shape of the network.
    """

    def __init__(self, shape: RecogniserShape) -> None:
        super().__init__()
        self.shape = shape
        self.features = LogMel(shape.mels)
        self.first = nn.Conv1d(shape.mels, shape.width // 2, 5, stride=2, padding=2)
        self.second = nn.Conv1d(shape.width // 2, shape.width, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(Block(shape.width, shape.kernel) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, 2 * (len(LETTERS) + 1))

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Recognise a batch.

        Args:
            audio: Audio at 16 kHz, right-padded, ``[B, N]``.
            lengths: Number of samples of each row, ``[B]``.

        Returns:
            Log probabilities ``[B, T, 29]`` and the number of valid steps of each row ``[B]``.
        """
        frames = lengths // HOP + 1
        mel = self.features(audio)
        real = _present(frames, mel.shape[1])
        count = frames[:, None, None]
        # Each row is normalised by its own loudness, so neither gain nor padding changes the result.
        mean = (mel * real).sum((1, 2), keepdim=True) / (count * mel.shape[2])
        deviation = (((mel - mean) * real).square().sum((1, 2), keepdim=True) / (count * mel.shape[2])).sqrt()
        hidden = ((mel - mean) / (deviation + 1e-3) * real).transpose(1, 2)
        for convolution in (self.first, self.second):
            frames = (frames + 1) // 2
            hidden = functional.gelu(convolution(hidden))
            hidden = hidden * _present(frames, hidden.shape[2]).transpose(1, 2)
        hidden = hidden.transpose(1, 2)
        present = _present(frames, hidden.shape[1])
        for block in self.blocks:
            hidden = block(hidden, present)
        scores = self.head(self.norm(hidden)).view(len(audio), -1, len(LETTERS) + 1)
        return scores.log_softmax(-1), 2 * frames


def _present(lengths: Tensor, total: int) -> Tensor:
    """``[B, total, 1]``: 1 up to each row's length, then 0."""
    return (torch.arange(total, device=lengths.device) < lengths[:, None])[..., None].float()


def pad(sounds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad sounds ``[N_b]`` to one batch ``[B, N]``, and give their lengths ``[B]``."""
    return pad_sequence(list(sounds), batch_first=True), torch.tensor([len(sound) for sound in sounds])


def greedy_letters(log_probabilities: Tensor, lengths: Tensor) -> list[str]:
    """The most likely symbol of each step, with repetitions merged and blanks dropped."""
    texts = []
    for row, length in zip(log_probabilities.argmax(-1), lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(row[:length]).tolist()
        texts.append(" ".join("".join(LETTERS[i] for i in merged if i != BLANK).split()))
    return texts
