"""Whether a sound has the voice of its reference, as a whole and in its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchmetrics import Metric

from wand.recognition.activity import FRAMES, active_frames, levels

# Parts with less active speech than this are not compared, in seconds.
SHORTEST = 1.0


class Embedder(Protocol):
    """Describes the voice of a sound by a vector. Vectors of one voice point in similar directions."""

    def __call__(self, sound: Tensor, sample_rate: int) -> Tensor:
        """The vector ``[D]`` of a sound ``[N]``."""
        ...


def similarity(sound: Tensor, reference: Tensor, sample_rate: int, embed: Embedder) -> float:
    """As `similarity_by_part`, for a sound as a whole."""
    return float(similarity_by_part(sound, sample_rate, reference, [0.0, len(sound) / sample_rate], embed))


def similarity_by_part(
    sound: Tensor, sample_rate: int, reference: Tensor, edges: Sequence[float], embed: Embedder
) -> Tensor:
    """Cosine similarity of the voice in each part of a sound with the voice of the reference.

    Args:
        sound: Audio ``[N]``.
        sample_rate: Sample rate of sound and reference, in Hz.
        reference: Audio of the reference ``[M]``.
        edges: Edges of P parts, as in `wand.metrics.prosody.by_part`.
        embed: Describes a voice.

    Returns:
        Similarities, float32 ``[P]``; NaN in parts with less than a second of active speech, and in all parts if the
        reference has less.
    """
    parts = [sound[round(first * sample_rate) : round(last * sample_rate)] for first, last in pairwise(edges)]
    wanted = voice_vector(reference, sample_rate, embed)
    return torch.tensor([cosine(voice_vector(part, sample_rate, embed), wanted) for part in parts])


def voice_vector(sound: Tensor, sample_rate: int, embed: Embedder) -> Tensor | None:
    """The vector ``[D]`` of the voice of a sound ``[N]``; None with less than a second of active speech."""
    active = active_frames(levels(sound, sample_rate))
    return None if int(active.sum()) < SHORTEST * FRAMES else embed(sound, sample_rate).float()


def cosine(one: Tensor | None, other: Tensor | None) -> float:
    """Cosine similarity of two vectors ``[D]``; NaN if one is missing."""
    return math.nan if one is None or other is None else float(cosine_similarity(one, other, dim=0))


class SpeakerSimilarity(Metric):
    """Cosine similarity of the voice of speech with that of a reference: the mean over all sounds.

    Sounds with less than a second of active speech, and those whose reference has less, count for nothing.

    Args:
        embed: Describes a voice, such as `XVectors`.
    """

    is_differentiable = False
    full_state_update = False
    count: Tensor
    total: Tensor

    def __init__(self, embed: Embedder) -> None:
        super().__init__()
        self.embed = embed
        for name in ("count", "total"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sounds: Sequence[Tensor], references: Sequence[Tensor], sample_rate: int) -> None:
        """Add audio ``[N]`` and audio ``[M]`` of the wanted voice of each."""
        for sound, reference in zip(sounds, references, strict=True):
            value = similarity(sound, reference, sample_rate, self.embed)
            if not math.isnan(value):
                self.count, self.total = self.count + 1, self.total + value

    def compute(self) -> Tensor:
        """The mean; NaN if no sound counts."""
        return self.total / self.count
