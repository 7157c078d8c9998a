"""Sound files in and out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

# Below this peak a recording holds nothing to clone (about -60 dB of full scale).
SILENT_PEAK = 1e-3


def read_audio(path: str | Path, sample_rate: int) -> Tensor:
    """A sound file as mono float32 ``[N]`` at `sample_rate`; several channels are averaged.

    Raises:
        ValueError: If there is no such file, it is not audio, or holds no samples or what is no number.
    """
    if not Path(path).is_file():
        raise ValueError(f"no sound file at {path}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless formats, by the name's ending
        reason = getattr(error, "error_string", error)
        raise ValueError(f"{path} is not a sound file that can be read: {reason}") from error
    if len(samples) == 0:
        raise ValueError(f"{path} is empty: it has no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path} has samples that are not finite numbers")
    return resample(torch.from_numpy(samples.mean(axis=1)), rate, sample_rate)


def resample(audio: Tensor, rate: int, new_rate: int) -> Tensor:
    """Audio ``[N]`` at another sample rate."""
    if rate == new_rate:
        return audio
    return torch.from_numpy(np.ascontiguousarray(soxr.resample(audio.numpy(), rate, new_rate)))


def read_reference(path: str | Path, sample_rate: int, seconds: float = 0.5) -> Tensor:
    """A voice to be cloned: mono float32 ``[N]``.

    Raises:
        ValueError: As `read_audio`, and if it is silent or shorter than `seconds`.
    """
    audio = read_audio(path, sample_rate)
    if len(audio) > 0 and float(audio.abs().max()) < SILENT_PEAK:
        raise ValueError(f"{path} is silent: give a recording of the voice to be cloned")
    if len(audio) < seconds * sample_rate:
        raise ValueError(
            f"{path} lasts {len(audio) / sample_rate:.2f} s: give at least {seconds} s of the voice to be cloned"
        )
    return audio


def write_audio(path: str | Path, audio: Tensor, sample_rate: int) -> None:
    """Write mono float ``[N]`` as 16-bit WAV (or what the name's ending says), making its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.clamp(-1, 1).cpu().numpy(), sample_rate)
