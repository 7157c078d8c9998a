"""Spectrograms of the sounds of a report."""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec

import torch
from torch import Tensor

from wand.evaluation.pictures import spectrogram

# Decibels below the peak that are black.
RANGE = 80.0
# Rows of a picture, and its columns at most. Of the values that fall into one pixel the loudest is shown.
ROWS, COLUMNS = 128, 1200


def draw_spectrogram(audio: Tensor, sample_rate: int) -> bytes | None:
    """Draw a spectrogram without axes, as PNG: frequencies from 0 to half the sample rate, 100 columns per second.

    Long sounds have fewer columns.

    Args:
        audio: Audio ``[N]``.
        sample_rate: Its sample rate, in Hz.

    Returns:
        The PNG, or None if the audio is too short for a frame.
    """
    if len(audio) <= 512:
        return None
    from matplotlib.image import imsave

    decibels = spectrogram(audio, sample_rate)
    size = (ROWS, min(COLUMNS, decibels.shape[1]))
    loudest = torch.nn.functional.adaptive_max_pool2d(decibels[None], size)[0]
    top = float(loudest.max())
    content = io.BytesIO()
    imsave(content, loudest.numpy(), cmap="magma", vmin=top - RANGE, vmax=top, origin="lower", format="png")
    return content.getvalue()


def can_draw() -> bool:
    """Whether pictures can be drawn; else this warns how."""
    if find_spec("matplotlib") is None:
        warnings.warn('spectrograms need matplotlib: pip install "wand-tts[plots]"', stacklevel=2)
        return False
    return True
