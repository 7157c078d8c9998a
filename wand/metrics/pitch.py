"""Pitch: the fundamental frequency of speech, by autocorrelation (Boersma 1993, the method of Praat)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from wand.files.audio import resample
from wand.recognition.activity import FRAMES, frame_count

# The fundamental frequencies of voices, in Hz.
LOWEST, HIGHEST = 60.0, 500.0
# Sound is analysed at this rate. Its autocorrelation is interpolated to UPSAMPLING times that rate.
RATE, UPSAMPLING = 8_000, 4
HOP = RATE // FRAMES
WIDTH = int(3 * RATE / LOWEST) // 2 * 2
FFT = 1024
SHORTEST_LAG, LONGEST_LAG = int(UPSAMPLING * RATE / HIGHEST), int(UPSAMPLING * RATE / LOWEST)
# The costs of Boersma's path. They are given for frames of 10 ms.
CANDIDATES = 8
VOICING_THRESHOLD, SILENCE_THRESHOLD = 0.45, 0.03
OCTAVE_COST, OCTAVE_JUMP_COST, VOICING_COST = 0.01, 0.35, 0.14
# The path is found in blocks of BLOCK frames, all blocks together, and the candidates of CHUNK frames at once.
BLOCK, CHUNK = 1000, 2000
# A frame counts as silent in comparison with the peaks of loud frames.
LOUD = 0.99


def pitch_track(sound: Tensor, sample_rate: int) -> Tensor:
    """Fundamental frequency of each frame of 10 ms.

    Time and memory are linear.

    Args:
        sound: Audio ``[N]``. Samples that are not finite count as zero.
        sample_rate: Its sample rate, in Hz.

    Returns:
        Frequencies in Hz, float32 ``[F]`` on the CPU; NaN in frames without voice. The frames are those of
        `wand.recognition.activity.levels`.
    """
    count = frame_count(len(sound), sample_rate)
    if not count:
        return torch.zeros(0)
    audio = resample(sound.float().cpu().nan_to_num(0.0, 0.0, 0.0), sample_rate, RATE)
    # Frame i is centred on its middle.
    audio = functional.pad(audio, ((WIDTH - HOP) // 2, WIDTH + HOP))
    frames = audio.unfold(0, WIDTH, HOP)[:count]
    found = [_candidates(chunk) for chunk in frames.split(CHUNK)]
    lags, strengths, peaks = (torch.cat(part) for part in zip(*found, strict=True))
    frequencies = UPSAMPLING * RATE / lags
    path = _best_path(frequencies, _scores(frequencies, strengths, peaks))
    return frequencies.gather(1, path[:, None].clamp(max=CANDIDATES - 1))[:, 0].masked_fill(
        path == CANDIDATES, math.nan
    )


def _candidates(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best lags ``[F, C]``, their correlations ``[F, C]`` (0 where there are fewer) and the peaks ``[F]``."""
    taper = torch.hann_window(WIDTH)
    frames = frames - frames.mean(1, keepdim=True)
    peaks = frames.abs().amax(1)
    own = _autocorrelation(taper[None])
    correlation = _autocorrelation(frames * taper) / own.clamp(min=1e-3)
    middle, before, after = (correlation[:, SHORTEST_LAG + i : LONGEST_LAG + i + 1] for i in (0, -1, 1))
    is_peak = (middle > before) & (middle >= after)
    values, places = (middle * is_peak).topk(CANDIDATES, dim=1)
    left, right = before.gather(1, places), after.gather(1, places)
    bend = (2 * values - left - right).clamp(min=1e-9)
    offset = ((right - left) / (2 * bend)).clamp(-0.5, 0.5)
    return SHORTEST_LAG + places + offset, (values + (right - left) * offset / 4).clamp(0, 1), peaks


def _autocorrelation(frames: Tensor) -> Tensor:
    """Autocorrelation of frames ``[F, WIDTH]`` at UPSAMPLING times their rate, divided by its value at 0."""
    power = torch.fft.rfft(frames, n=FFT).abs().square()
    correlation = torch.fft.irfft(power, n=UPSAMPLING * FFT)[:, : LONGEST_LAG + 2]
    return correlation / correlation[:, :1].clamp(min=1e-12)


def _scores(frequencies: Tensor, strengths: Tensor, peaks: Tensor) -> Tensor:
    """How good each candidate is, and last the choice that a frame has no voice: ``[F, C + 1]``."""
    loud = peaks.kthvalue(1 + int(LOUD * (len(peaks) - 1))).values.clamp(min=1e-9)
    silent = 2 - (peaks / loud).clamp(max=1) * (1 + VOICING_THRESHOLD) / SILENCE_THRESHOLD
    unvoiced = VOICING_THRESHOLD + silent.clamp(min=0)
    voiced = (strengths + OCTAVE_COST * (frequencies / LOWEST).log2()).masked_fill(strengths <= 0, -math.inf)
    return torch.cat([voiced, unvoiced[:, None]], dim=1)


def _best_path(frequencies: Tensor, scores: Tensor) -> Tensor:
    """The choices ``[F]`` whose scores, minus the costs of jumps, are greatest (Viterbi), block by block."""
    count = len(scores)
    block = min(BLOCK, count)
    missing = -count % block
    octaves = functional.pad(frequencies.log2(), (0, 1, 0, missing)).unflatten(0, (-1, block))
    scores = functional.pad(scores, (0, 0, 0, missing)).unflatten(0, (-1, block))
    jumps = OCTAVE_JUMP_COST * (octaves[:, :-1, :, None] - octaves[:, 1:, None, :]).abs()
    jumps[..., -1, :] = jumps[..., :, -1] = VOICING_COST
    jumps[..., -1, -1] = 0
    best, back = scores[:, 0], []
    for i in range(1, block):
        reached = (best[:, :, None] - jumps[:, i - 1]).max(1)
        back.append(reached.indices)
        best = reached.values + scores[:, i]
    path = [best.argmax(1)]
    for step in reversed(back):
        path.append(step.gather(1, path[-1][:, None])[:, 0])
    return torch.stack(path[::-1], dim=1).flatten()[:count]


def median_pitch(track: Tensor) -> float:
    """Median of the frames with voice, in Hz; NaN if there are none."""
    return float(track.nanmedian()) if len(track) else math.nan


def semitones(low: float, high: float) -> float:
    """The interval from one frequency to another, in semitones; NaN if one of them is NaN."""
    return 12 * math.log2(high / low)
