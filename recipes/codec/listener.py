"""A small network that hears phones, through which the codec's output is compared with the original."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from recipes.codec.losses import FLOOR, feature_distance, mel_filters
from recipes.codec.speech import HOP, PHONES, SAMPLE_RATE

BANDS, WIDTH, SIZE = 64, 160, 1024


class Listener(nn.Module):
    """Convolutions over log mel spectra of 50 frames a second.

    It learns phones from original speech only. Its hidden layers then tell how different two sounds are to an ear: a
    loss in them preserves what makes words understandable (Germain et al., 2018, "Speech denoising with deep feature
    losses").
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(SIZE), persistent=False)
        self.register_buffer("filters", mel_filters(SIZE // 2 + 1, BANDS, SAMPLE_RATE), persistent=False)
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH if i else BANDS, WIDTH, 5, padding=2) for i in range(3))
        self.phones = nn.Conv1d(WIDTH, PHONES, 1)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores ``[B, PHONES, T]`` and hidden layers ``[B, WIDTH, T]`` of audio ``[B, N]``, T = N / 320."""
        padded = functional.pad(
            audio, (SIZE // 2 - HOP // 2, SIZE // 2 - HOP // 2)
        )  # frame i is centred on its samples
        spectrum = torch.stft(padded, SIZE, HOP, window=self.window, normalized=True, center=False, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1).add(1e-8).sqrt().transpose(1, 2)
        hidden = ((power @ self.filters + FLOOR).log().transpose(1, 2) + 3.0) / 2.0
        features = []
        for layer in self.layers:
            hidden = functional.gelu(layer(hidden))
            features.append(hidden)
        return self.phones(hidden), features


def listening_loss(listener: Listener, output: Tensor, original: Tensor, phones: Tensor) -> tuple[Tensor, Tensor]:
    """The listener's own loss on the original, and the codec's loss on its output.

    Args:
        listener: The listener.
        output: Output of the codec ``[B, N]``.
        original: The original ``[B, N]``.
        phones: Phone of every frame ``[B, T]``.

    Returns:
        The loss that trains the listener, and the loss that trains the codec: cross-entropy of the phones that are
        heard, and the relative distance of the hidden layers.
    """
    scores, features = listener(original)
    own = functional.cross_entropy(scores, phones)
    listener.requires_grad_(False)
    heard, hidden = listener(output)
    listener.requires_grad_(True)
    distance = feature_distance((layer.detach() for layer in features), hidden)
    return own, 0.1 * functional.cross_entropy(heard, phones) + distance
