"""The description of a codec, and the check of what a codec worker answers against it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wand.checks import is_finite_number

# A codec may make this many frames more or fewer than the length of a sound asks for, and this share of them.
SPARE_FRAMES = 3
SPARE_SHARE = 0.02
# Samples of a sound lie in -1 .. 1. A vocoder may exceed this a little; whole numbers of 16 bits exceed it by far.
LOUDEST = 100.0
# Upper bounds of what a description may claim.
MOST_HZ = 10_000_000
MOST_CODEBOOKS = 1024
MOST_CODES = 2**31 - 1
# No codec has more global codes for a voice.
MOST_GLOBAL_CODES = 4096


@dataclass(frozen=True, slots=True)
class CodecFacts:
    """Properties of a codec, known before it runs.

    Args:
        sample_rate: Sample rate of the audio, in Hz.
        frame_rate: Frames of codes per second, in Hz.
        num_codebooks: K.
        codebook_size: Number of codes in one codebook.
        needs_reference: Whether decoding needs the voice.
        weights: File of the release that determines the codes; empty for your own script.
        needs_latents: Whether the vocoder takes latents of the model instead of codes.
        has_global_codes: Whether decoding takes global codes of the voice instead of reference audio.

    Raises:
        ValueError: If a value is not of its type or not in its range.
    """

    sample_rate: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int
    needs_reference: bool
    weights: str = ""
    needs_latents: bool = False
    has_global_codes: bool = False

    def __post_init__(self) -> None:
        for name, most in (
            ("sample_rate", MOST_HZ),
            ("num_codebooks", MOST_CODEBOOKS),
            ("codebook_size", MOST_CODES),
        ):
            value = getattr(self, name)
            if not is_finite_number(value) or value != value // 1 or not 1 <= value <= most:
                raise ValueError(f"{name} {_shown(value)} is not a whole number from 1 to {most}")
            object.__setattr__(self, name, int(value))
        if not is_finite_number(self.frame_rate) or not 0 < self.frame_rate <= self.sample_rate:
            raise ValueError(f"frame_rate {_shown(self.frame_rate)} is not a number from 0 to sample_rate")
        for name in ("needs_reference", "needs_latents", "has_global_codes"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} {_shown(getattr(self, name))} is neither true nor false")
        if not isinstance(self.weights, str):
            raise ValueError(f"weights {_shown(self.weights)} is not the name of a file")

    @classmethod
    def described(cls, description: Mapping[str, Any]) -> CodecFacts:
        """The facts in the answer to ``describe``.

        Raises:
            ValueError: If a fact is missing, unknown or wrong.
        """
        known = {field.name: field.default is MISSING for field in fields(cls)}
        if missing := [name for name, needed in known.items() if needed and name not in description]:
            raise ValueError(f"{', '.join(missing)} is missing")
        if unknown := [name for name in description if name not in known]:
            raise ValueError(f"{_shown(', '.join(unknown))} is unknown: the names are {', '.join(known)}")
        return cls(**description)

    def frames_of(self, seconds: float) -> tuple[int, int]:
        """The smallest and the largest number of frames ``[F]`` that a sound of this length may have."""
        expected = seconds * self.frame_rate
        spare = SPARE_FRAMES + SPARE_SHARE * expected
        return max(0, math.floor(expected - spare)), math.ceil(expected + spare)

    def samples_of(self, frames: int) -> tuple[int, int]:
        """The smallest and the largest number of samples ``[N]`` that the sound of this many frames may have."""
        hop = self.sample_rate / self.frame_rate
        spare = SPARE_FRAMES + SPARE_SHARE * frames
        return max(0, math.floor((frames - spare) * hop)), math.ceil((frames + spare) * hop)

    def codes(self, answer: Mapping[str, Any], seconds: float) -> Tensor:
        """The codes ``[K, F]``, int64, in the answer to ``encode`` for a sound of this length.

        Raises:
            ValueError: If they do not fit this description.
        """
        codes = _array(answer, "codes", "iu")
        if codes.ndim != 2 or codes.shape[0] != self.num_codebooks:
            raise ValueError(f"codes of shape {list(codes.shape)}, not [{self.num_codebooks}, frames]")
        least, most = self.frames_of(seconds)
        if not least <= codes.shape[1] <= most:
            expected = f"{least} to {most}, at {self.frame_rate:g} frames per second"
            raise ValueError(f"{codes.shape[1]} frames of codes for {seconds:.3f} s of sound, not {expected}")
        return _in_range("code", codes, self.codebook_size - 1)

    def global_codes(self, answer: Mapping[str, Any]) -> Tensor | None:
        """The global codes ``[G]``, int64, in the answer to ``encode``; None if the codec has none.

        Raises:
            ValueError: If they are missing or are no codes.
        """
        if "global_codes" not in answer and not self.has_global_codes:
            return None
        codes = _array(answer, "global_codes", "iu")
        if codes.ndim != 1 or not 1 <= codes.size <= MOST_GLOBAL_CODES:
            raise ValueError(f"global_codes of shape {list(codes.shape)}, not [1 to {MOST_GLOBAL_CODES}]")
        return _in_range("global code", codes, MOST_CODES)

    def audio(self, answer: Mapping[str, Any], frames: int) -> Tensor:
        """The sound ``[N]``, float32, in the answer to ``decode`` or ``vocode`` for this many frames.

        Raises:
            ValueError: If it does not fit this description, or is not finite.
        """
        rate = answer.get("sample_rate", self.sample_rate)
        if rate != self.sample_rate:
            raise ValueError(f"a sound at {_shown(rate)} Hz, not {self.sample_rate} Hz")
        sound = _array(answer, "audio", "f")
        if sound.ndim != 1:
            raise ValueError(f"audio of shape {list(sound.shape)}, not [samples]")
        least, most = self.samples_of(frames)
        if not least <= len(sound) <= most:
            expected = f"{least} to {most}, at {self.sample_rate / self.frame_rate:g} samples per frame"
            raise ValueError(f"{len(sound)} samples for {frames} frames, not {expected}")
        if not np.isfinite(sound).all():
            raise ValueError("audio with values that are not finite")
        if len(sound) and (peak := float(np.abs(sound).max())) > LOUDEST:
            raise ValueError(f"audio that reaches {peak:g}: samples lie in -1 .. 1")
        return torch.from_numpy(sound.astype(np.float32))


def _array(answer: Mapping[str, Any], name: str, kinds: str) -> np.ndarray:
    """The array of this name, whose dtype must be of these kinds."""
    if name not in answer:
        found = ", ".join(map(str, answer)) or "nothing"
        raise ValueError(f"no {name}: it has {_shown(found)}")
    value = answer[name]
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} as {_shown(type(value).__name__)}, not as a numpy array")
    if value.dtype.kind not in kinds:
        wanted = "floats" if kinds == "f" else "integers"
        raise ValueError(f"{name} of dtype {value.dtype}, not {wanted}")
    return value


def _in_range(name: str, codes: np.ndarray, last: int) -> Tensor:
    for wrong in (codes.min(), codes.max()) if codes.size else ():
        if not 0 <= wrong <= last:
            raise ValueError(f"the {name} {wrong}, which is not in 0 .. {last}")
    return torch.from_numpy(codes.astype(np.int64))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
