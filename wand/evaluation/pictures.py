"""Spectrograms of several systems side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from wand.files.writing import replacing


def spectrogram(audio: Tensor, sample_rate: int) -> Tensor:
    """Spectrogram ``[257, frames]`` of audio ``[N]`` in decibels.

    It has 100 frames per second. Values are clipped to 80 dB below the peak.
    """
    hop = sample_rate // 100
    spectrum = torch.stft(audio, 512, hop, window=torch.hann_window(512), return_complex=True, pad_mode="constant")
    decibels = 20 * torch.log10(spectrum.abs() + 1e-6)
    return decibels.clamp(min=float(decibels.max()) - 80)


def draw_spectrograms(
    sounds: Mapping[str, Sequence[Tensor]], titles: Sequence[str], sample_rate: int, path: Path
) -> None:
    """Draw spectrograms with one column per sentence and one row per system.

    Args:
        sounds: Audio ``[N]`` of every sentence, by system.
        titles: Text of every sentence.
        sample_rate: Sample rate of the audio, in Hz.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    longest = max(len(sound) for row in sounds.values() for sound in row) / sample_rate
    figure = Figure(figsize=(5 * len(titles), 1.7 * len(sounds)), layout="constrained")
    grid = figure.subplots(len(sounds), len(titles), squeeze=False, sharex=True, sharey=True)
    for line, (system, row) in zip(grid, sounds.items(), strict=True):
        line[0].set_ylabel(f"{system}\nkHz")
        for axes, sound in zip(line, row, strict=True):
            if len(sound) > 512:
                extent = (0, len(sound) / sample_rate, 0, sample_rate / 2000)
                axes.imshow(spectrogram(sound, sample_rate).numpy(), origin="lower", aspect="auto", extent=extent)
            axes.set_xlim(0, longest)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title if len(title) < 60 else f"{title[:57]}...", fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("seconds")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=90, format="png")
