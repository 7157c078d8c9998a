"""A small discriminator on complex spectra at two resolutions (EnCodec, 2022, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from recipes.codec.losses import feature_distance

WIDTH = 16
SIZES = (1024, 256)


class SpectrumDiscriminator(nn.Module):
    """Judges one complex spectrum.

    Args:
        size: FFT size.
    """

    window: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        kernels = [(3, 9)] * 4 + [(3, 3)]
        strides = [(1, 2)] + [(1, 2)] * 3 + [(1, 1)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(WIDTH if i else 2, WIDTH, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
            for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
        )
        self.judge = weight_norm(nn.Conv2d(WIDTH, 1, 3, padding=1))

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Features of every layer, then the verdict, for audio ``[B, N]``."""
        spectrum = torch.stft(
            audio, self.size, self.size // 4, window=self.window, normalized=True, return_complex=True
        )
        hidden = torch.view_as_real(spectrum).permute(0, 3, 2, 1)  # [B, 2, frames, bins]
        features = []
        for layer in self.layers:
            hidden = functional.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return [*features, self.judge(hidden)]


class Discriminator(nn.Module):
    """Judges audio at two resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(SpectrumDiscriminator(size) for size in SIZES)

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Features and verdicts of every part, for audio ``[B, N]``."""
        return [part(audio) for part in self.parts]


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Hinge loss of the discriminator."""
    losses = [
        functional.relu(1 - r[-1]).mean() + functional.relu(1 + f[-1]).mean() for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def generator_losses(real: list[list[Tensor]], fake: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """The hinge loss of the codec, and the relative distance of the discriminator's features."""
    verdicts = torch.stack([functional.relu(1 - f[-1]).mean() for f in fake]).mean()
    wanted, found = ([layer for part in parts for layer in part[:-1]] for parts in (real, fake))
    return verdicts, feature_distance(wanted, found)
