"""Read and write sound files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

# A recording with a lower peak counts as silent (about -60 dB of full scale).
SILENT_PEAK = 1e-3


def read_audio(path: str | Path, sample_rate: int) -> Tensor:
    """Read a sound file as mono float32 ``[N]`` at `sample_rate`. Channels are averaged.

    Raises:
        ValueError: If there is no such file, it is not audio, it is empty, or it has samples that are not finite.
    """
    if not Path(path).is_file():
        raise ValueError(f"no sound file at {path}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a headerless format, chosen by the suffix
        reason = getattr(error, "error_string", error)
        raise ValueError(f"{path} is not a sound file that can be read: {reason}") from error
    if len(samples) == 0:
        raise ValueError(f"{path} is empty: it has no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path} has samples that are not finite numbers")
    return resample(torch.from_numpy(samples.mean(axis=1)), rate, sample_rate)


def resample(audio: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample audio ``[N]``."""
    if rate == new_rate:
        return audio
    return torch.from_numpy(np.ascontiguousarray(soxr.resample(audio.numpy(), rate, new_rate)))


def read_reference(path: str | Path, sample_rate: int, seconds: float = 0.5) -> Tensor:
    """Read a sound file of a voice to clone, as mono float32 ``[N]``.

    Raises:
        ValueError: As in `read_audio`, and if the recording is silent or shorter than `seconds`.
    """
    audio = read_audio(path, sample_rate)
    if len(audio) > 0 and float(audio.abs().max()) < SILENT_PEAK:
        raise ValueError(f"{path} is silent: give a recording of the voice to clone")
    if len(audio) < seconds * sample_rate:
        raise ValueError(
            f"{path} lasts {len(audio) / sample_rate:.2f} s: give at least {seconds} s of the voice to clone"
        )
    return audio


def write_audio(path: str | Path, audio: Tensor, sample_rate: int) -> None:
    """Write mono float audio ``[N]``. The suffix chooses the format (.wav: 16 bit). Creates the folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.clamp(-1, 1).cpu().numpy(), sample_rate)
