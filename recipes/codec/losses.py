"""Spectral losses that train the tiny codec without a discriminator."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

SCALES = ((256, 32), (512, 64), (1024, 80))
# FFT size and length (in frames of 8 ms) of the windows in which band envelopes are compared.
ENVELOPE_SIZE, ENVELOPE_FRAMES = 512, 48
# Sounds below the dither's level need not match. Without this floor, silence would dominate the log spectra.
FLOOR = 3e-3


def mel_filters(bins: int, bands: int, sample_rate: int) -> Tensor:
    """Triangular mel filters `[bins, bands]` from 0 Hz to the Nyquist frequency, each of unit sum.

    Args:
        bins: FFT bins, that is n_fft / 2 + 1.
        bands: Mel bands.
        sample_rate: Sample rate in Hz.
    """
    top = 2595.0 * torch.log10(torch.tensor(1.0 + sample_rate / 2 / 700.0))
    edges = 700.0 * (10.0 ** (torch.linspace(0.0, float(top), bands + 2) / 2595.0) - 1.0)
    frequencies = torch.linspace(0.0, sample_rate / 2, bins)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    # The narrowest low bands may lie between two bins; they use the nearest bin.
    for band in torch.nonzero(filters.sum(0) == 0).flatten().tolist():
        filters[int((frequencies[:, 0] - edges[band + 1]).abs().argmin()), band] = 1.0
    return filters / filters.sum(0)


def relative_l1(output: Tensor, target: Tensor) -> Tensor:
    """L1 distance divided by the target's mean, so that it does not depend on loudness or FFT size."""
    return (output - target).abs().mean() / (target.abs().mean() + FLOOR)


def feature_distance(wanted: Iterable[Tensor], found: Iterable[Tensor]) -> Tensor:
    """Mean over the layers of a network of the L1 distance, divided by the mean of the wanted layer."""
    pairs = zip(wanted, found, strict=True)
    return torch.stack([(a - b).abs().mean() / a.abs().mean().clamp(min=1e-4) for a, b in pairs]).mean()


def envelope_distance(output: Tensor, target: Tensor) -> Tensor:
    """One minus the correlation of band envelopes over about 0.4 s, averaged over windows with sound.

    Intelligibility depends on how the energy of each band changes over time (Taal et al., 2011), not on its level.

    Args:
        output: Magnitude mel spectrum of the output, `[B, frames, bands]`.
        target: Magnitude mel spectrum of the target, `[B, frames, bands]`.
    """
    windows = [spectrum.unfold(1, ENVELOPE_FRAMES, ENVELOPE_FRAMES // 4) for spectrum in (output, target)]
    found, wanted = (window - window.mean(-1, keepdim=True) for window in windows)
    norms = found.square().sum(-1).add(1e-8).sqrt() * wanted.square().sum(-1).add(1e-8).sqrt()
    correlation = (found * wanted).sum(-1) / norms
    sounding = (windows[1].mean(-1) > FLOOR).float()
    return ((1.0 - correlation) * sounding).sum() / sounding.sum().clamp(min=1.0)


class SpectralLoss(nn.Module):
    """Sum of L1 losses of mel and magnitude spectra at several resolutions, a small waveform L1, and band envelopes.

    Args:
        sample_rate: Sample rate in Hz.
        waveform_weight: Weight of the waveform term.
    """

    def __init__(self, sample_rate: int, waveform_weight: float = 0.1) -> None:
        super().__init__()
        self.waveform_weight = waveform_weight
        for size, bands in SCALES:
            self.register_buffer(f"window_{size}", torch.hann_window(size))
            self.register_buffer(f"mel_{size}", mel_filters(size // 2 + 1, bands, sample_rate))

    def magnitude(self, audio: Tensor, size: int) -> Tensor:
        """Magnitude spectrum `[B, frames, bins]` of audio `[B, N]`."""
        window = self.get_buffer(f"window_{size}")
        spectrum = torch.stft(audio, size, size // 4, window=window, normalized=True, return_complex=True)
        return torch.view_as_real(spectrum).square().sum(-1).add(1e-8).sqrt().transpose(1, 2)

    def forward(self, output: Tensor, target: Tensor, envelope_weight: float = 0.0) -> Tensor:
        """The loss between output and target, both `[B, N]`; `envelope_weight` weights `envelope_distance`."""
        loss = self.waveform_weight * relative_l1(output, target)
        for size, _ in SCALES:
            filters = self.get_buffer(f"mel_{size}")
            found, wanted = self.magnitude(output, size), self.magnitude(target, size)
            found_mel, wanted_mel = found @ filters, wanted @ filters
            loss = loss + (
                nn.functional.l1_loss((found_mel + FLOOR).log(), (wanted_mel + FLOOR).log())
                + relative_l1(found_mel, wanted_mel)
                + 0.5 * nn.functional.l1_loss((found + FLOOR).log(), (wanted + FLOOR).log())
                + 0.5 * relative_l1(found, wanted)
            ) / len(SCALES)
            if envelope_weight and size == ENVELOPE_SIZE:
                loss = loss + envelope_weight * envelope_distance(found_mel, wanted_mel)
        return loss
