"""Checks of recorded sound, and where the speech in it begins and ends. Pure functions of samples.

A check refuses only what cannot be speech: quiet recordings, 8-bit and 8 kHz sound, noise, a constant offset, singing
and single words pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Samples = npt.NDArray[np.float32]

# Levels are measured in frames of FRAME seconds, every HOP seconds, after the mean of the frame is subtracted. So a
# constant offset has no level. A period of the lowest voices (50 Hz) fits into a frame.
FRAME, HOP = 0.02, 0.01
# A frame is audible from -66 dB of full scale, 16 steps of 16-bit sound. Noise of one step is at -90 dB, and the
# vowels of speech whose peak is at -45 dB are at -55 dB.
AUDIBLE = 5e-4
# A recording must be audible for this time. A click is audible for two frames.
SHORTEST_AUDIBLE = 0.05
# Sound that takes 3 values only is silence and its quantisation noise, also at 8 bit, where a step is at -42 dB.
FEWEST_VALUES = 4
# Float samples may exceed full scale (recorders with 32-bit float); from +12 dB on, the scale is another one.
LARGEST = 4.0
# Hard clipping: this share of the loud samples (above a tenth of the peak) is within 0.5 % of the peak. Clean speech
# has 0.1 %, a sine 7 %, speech that is amplified by 20 dB and clipped 35 %.
MOST_CLIPPED = 0.25
# Energy of mixed channels, relative to that of channels without relation. One of two channels alone has 1, the same
# sound in both has 2, opposite phase has 0 (0.02: one channel is 0.8 times the other, inverted).
LEAST_MIXED = 0.02
# The loudest LOUD seconds of a recording give its speech level. Speech is at most RANGE below that level.
LOUD, RANGE = 0.2, 10 ** (-40 / 20)
# In a recording with a noise floor, speech must be louder than the floor, but not louder than -20 dB of its own level.
FLOOR, ABOVE_FLOOR, WEAKEST = 0.1, 10 ** (10 / 20), 10 ** (-20 / 20)
# Speech begins where FRAMES_IN_ROW frames are speech, so that a click does not count. MARGIN seconds before it belong
# to it: the onset of a consonant is weak.
FRAMES_IN_ROW, MARGIN = 4, 0.05
# Less silence than this, in seconds, is left where it is.
SHORT_SILENCE = 0.2


class Unusable(ValueError):
    """Raised for an utterance or a voice that cannot be used.

    Args:
        why: The kind of reason in a few words, for counting.
        detail: The full reason.
    """

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(detail)
        self.why = why


def check_samples(samples: Samples | Tensor, name: str) -> None:
    """Refuse samples that are not finite, or that are not scaled to -1 ... 1.

    Args:
        samples: Samples of any shape.
        name: What they are, for the message.

    Raises:
        Unusable: If they are refused.
    """
    values = torch.as_tensor(samples)
    if values.numel() == 0:
        return
    peak = float(values.abs().max())
    if not np.isfinite(peak):
        raise Unusable("not finite", f"{name} has samples that are not finite numbers")
    if peak > LARGEST:
        raise Unusable(
            "out of scale", f"{name} has a sample of {peak:g}: float samples lie between -1 and 1, so scale the sound"
        )


def check_mixing(channels: float, mixed: float, count: int, name: str) -> None:
    """Refuse channels that cancel each other.

    Args:
        channels: Energy of all channels together, without their means.
        mixed: Energy of the mean of the channels, without its mean.
        count: Number of channels.
        name: What they are, for the message.

    Raises:
        Unusable: If they are refused.
    """
    if mixed < LEAST_MIXED * channels / count**2:
        raise Unusable(
            "opposite phase", f"{name} has channels in opposite phase, which cancel each other: give one channel"
        )


def check_clipping(samples: Samples, name: str) -> None:
    """Refuse a hard-clipped recording.

    Args:
        samples: ``[N]`` as recorded; resampling would hide the clipping.
        name: What they are, for the message.

    Raises:
        Unusable: If they are refused.
    """
    size = np.abs(samples - samples.mean())
    loud = size[size > 0.1 * size.max(initial=0)]
    share = float(np.mean(loud > 0.995 * loud.max())) if len(loud) else 0.0
    if share > MOST_CLIPPED:
        raise Unusable("clipped", f"{name} is clipped: {100 * share:.0f} % of its loud samples are at the maximum")


def check_values(samples: Samples, name: str) -> None:
    """Refuse recorded samples ``[N]`` that take hardly any values: silence, or the noise of quantisation.

    Raises:
        Unusable: If they are refused.
    """
    if len(np.unique(samples[: 1 << 20])) < FEWEST_VALUES and len(np.unique(samples)) < FEWEST_VALUES:
        raise Unusable("silent", f"{name} is silent: its samples take {len(np.unique(samples))} values only")


def check_audible(audio: Tensor, sample_rate: int, name: str) -> None:
    """Refuse a recording without audible sound: zeros, a constant, noise of the last bit, or a single click.

    Args:
        audio: Float32 ``[N]``.
        sample_rate: Sample rate, in Hz.
        name: What it is, for the message.

    Raises:
        Unusable: If it is refused.
    """
    check_samples(audio, name)
    if len(audio) == 0:
        raise Unusable("empty", f"{name} is empty: it has no samples")
    audible = int((levels(audio, sample_rate) >= AUDIBLE).sum()) * HOP
    if audible < min(SHORTEST_AUDIBLE, len(audio) / sample_rate):
        raise Unusable("silent", f"{name} is silent: it is audible for {audible:.2f} s")


def levels(audio: Tensor, sample_rate: int) -> Tensor:
    """Level (RMS) ``[M]`` of the frames of audio ``[N]``, N > 0; a frame begins every `HOP` seconds."""
    hop, size = (max(1, round(seconds * sample_rate)) for seconds in (HOP, FRAME))
    if len(audio) < size:
        return audio.double().std(correction=0)[None]
    return audio.unfold(0, size, hop).double().std(-1, correction=0)


def speech_span(audio: Tensor, sample_rate: int) -> tuple[int, int]:
    """First sample of the speech in audio ``[N]``, and the sample after its end; ``(0, N)`` without silence around it.

    The threshold follows the level of the speech and of the noise around it.
    """
    level = levels(audio, sample_rate)
    sorted_levels = level.sort().values
    speech = sorted_levels[-min(len(level), round(LOUD / HOP))]
    floor = sorted_levels[int(FLOOR * len(level))] * ABOVE_FLOOR
    threshold = max(AUDIBLE, float(speech * RANGE), float(min(floor, speech * WEAKEST)))
    row = min(FRAMES_IN_ROW, len(level))
    loud = (level >= threshold).unfold(0, row, 1).all(-1).nonzero()[:, 0]
    if len(loud) == 0:
        return 0, len(audio)
    begin = int(loud[0]) * HOP - MARGIN
    end = (int(loud[-1]) + row - 1) * HOP + FRAME + MARGIN
    seconds = len(audio) / sample_rate
    return (
        round(begin * sample_rate) if begin > SHORT_SILENCE else 0,
        round(end * sample_rate) if seconds - end > SHORT_SILENCE else len(audio),
    )
