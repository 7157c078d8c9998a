"""A small convolutional CTC network from log mel spectra to letters and phones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers.audio_utils import mel_filter_bank

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
BLANK = len(LETTERS)
# The phones of CMU's pronouncing dictionary, without stress.
PHONES = (
    *("aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh", "ih", "iy", "jh"),
    *("k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh", "uw", "v", "w", "y", "z", "zh"),
)
PHONE_BLANK = len(PHONES)
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
        phones_after: Number of blocks after which phones are recognised for the first time; the blocks that follow see
            them. After the last block they are recognised again. 0 for a network that knows letters only.
    """

    mels: int = 64
    width: int = 224
    layers: int = 8
    kernel: int = 9
    phones_after: int = 0


class Scores(NamedTuple):
    """What a `RecogniserNetwork` hears in a batch.

    Args:
        letters: Log probabilities of `LETTERS` and blank, ``[B, T, 29]``.
        phones: Log probabilities of `PHONES` and blank, ``[B, T, 40]``, inside the trunk and at its end; empty if the
            network has no phones.
        steps: Number of valid steps of each row, ``[B]``.
    """

    letters: Tensor
    phones: tuple[Tensor, ...]
    steps: Tensor


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
    """Maps audio to log probabilities of letters and phones, at 50 steps per second.

    The trunk runs at 25 frames per second. Each of its frames gives two output steps.

    Args:
        shape: Shape of the network.

    Raises:
        ValueError: If phones are to be recognised after more blocks than there are.
    """

    def __init__(self, shape: RecogniserShape) -> None:
        super().__init__()
        if not 0 <= shape.phones_after <= shape.layers:
            raise ValueError(f"phones_after must lie in [0, {shape.layers}] (layers), got {shape.phones_after}")
        self.shape = shape
        self.features = LogMel(shape.mels)
        self.first = nn.Conv1d(shape.mels, shape.width // 2, 5, stride=2, padding=2)
        self.second = nn.Conv1d(shape.width // 2, shape.width, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(Block(shape.width, shape.kernel) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, 2 * (BLANK + 1))
        if shape.phones_after:
            self.phone_head = nn.Linear(shape.width, 2 * (PHONE_BLANK + 1))
            self.echo = nn.Linear(2 * (PHONE_BLANK + 1), shape.width)

    def forward(self, audio: Tensor, lengths: Tensor) -> Scores:
        """Recognise a batch.

        Args:
            audio: Audio at 16 kHz, right-padded, ``[B, N]``.
            lengths: Number of samples of each row, ``[B]``.
        """
        return self.read(*self.spectra(audio, lengths))

    def spectra(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log mel spectra ``[B, T, mels]`` and the number of frames of each row ``[B]``.

        Each row is normalised by its own loudness, so neither gain nor padding changes the result.
        """
        frames = lengths // HOP + 1
        mel = self.features(audio)
        real = _present(frames, mel.shape[1])
        count = frames[:, None, None]
        mean = (mel * real).sum((1, 2), keepdim=True) / (count * mel.shape[2])
        deviation = (((mel - mean) * real).square().sum((1, 2), keepdim=True) / (count * mel.shape[2])).sqrt()
        return (mel - mean) / (deviation + 1e-3) * real, frames

    def read(self, spectra: Tensor, frames: Tensor) -> Scores:
        """Recognise a batch of `spectra`."""
        hidden = spectra.transpose(1, 2)
        for convolution in (self.first, self.second):
            frames = (frames + 1) // 2
            hidden = functional.gelu(convolution(hidden))
            hidden = hidden * _present(frames, hidden.shape[2]).transpose(1, 2)
        hidden = hidden.transpose(1, 2)
        present = _present(frames, hidden.shape[1])
        phones: list[Tensor] = []
        for count, block in enumerate(self.blocks, start=1):
            hidden = block(hidden, present)
            if count == self.shape.phones_after:
                phones.append(_per_step(self.phone_head(self.norm(hidden))))
                hidden = hidden + self.echo(phones[0].exp().view(*hidden.shape[:2], -1))
        last = self.norm(hidden)
        if phones:
            phones.append(_per_step(self.phone_head(last)))
        return Scores(_per_step(self.head(last)), tuple(phones), 2 * frames)


def _per_step(scores: Tensor) -> Tensor:
    """Log probabilities ``[B, 2 T, V]`` of the scores ``[B, T, 2 V]`` of two output steps per frame."""
    return scores.float().view(len(scores), 2 * scores.shape[1], -1).log_softmax(-1)


def _present(lengths: Tensor, total: int) -> Tensor:
    """``[B, total, 1]``: 1 up to each row's length, then 0."""
    return (torch.arange(total, device=lengths.device) < lengths[:, None])[..., None].float()


def pad(sounds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad sounds ``[N_b]`` to one batch ``[B, N]``, and give their lengths ``[B]``."""
    return pad_sequence(list(sounds), batch_first=True), torch.tensor([len(sound) for sound in sounds])


def greedy_letters(log_probabilities: Tensor, lengths: Tensor) -> list[str]:
    """The letters of the most likely symbol of each step, with single spaces."""
    found = _greedy(log_probabilities, lengths, BLANK)
    return [" ".join("".join(LETTERS[i] for i in row).split()) for row in found]


def greedy_phones(log_probabilities: Tensor, lengths: Tensor) -> list[list[str]]:
    """The phones of the most likely symbol of each step."""
    return [[PHONES[i] for i in row] for row in _greedy(log_probabilities, lengths, PHONE_BLANK)]


def _greedy(log_probabilities: Tensor, lengths: Tensor, blank: int) -> list[list[int]]:
    """The most likely symbol of each step, with repetitions merged and blanks dropped."""
    best = zip(log_probabilities.argmax(-1), lengths.tolist(), strict=True)
    return [[i for i in torch.unique_consecutive(row[:length]).tolist() if i != blank] for row, length in best]
