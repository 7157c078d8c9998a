"""Training speech of the codec: segments of spoken sentences, and the phone that is heard in every frame."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 16_000
HOP = 320
# espeak-ng's digital silence between words spoils log spectra, so a faint noise is added, 66 dB below full scale.
DITHER = 5e-4
MARKS = str.maketrans("", "", "ˈˌː")
# Rarer phones, such as those of loan words, count as one.
PHONES = 48


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments of speech.

    Args:
        audio: ``[B, 1, N]``.
        phones: Index of the phone of every frame, ``[B, N / 320]``.
    """

    audio: Tensor
    phones: Tensor


class Speech:
    """The spoken corpus of `recipes.corpus.speak`, as one long sound.

    Args:
        path: Path of the corpus without its ending: ``speech`` for ``speech.npy`` and ``speech.jsonl``.
        held_out: Number of utterances at the end that are for validation.
    """

    def __init__(self, path: Path, held_out: int) -> None:
        lines = [json.loads(line) for line in path.with_suffix(".jsonl").open(encoding="utf-8")]
        self._whole = np.load(path.with_suffix(".npy"), mmap_mode="r")
        self.validation = lines[-held_out:]
        self.audio = self._whole[: self.validation[0]["start"]]
        lines = lines[:-held_out]
        counts = Counter(phone.translate(MARKS) for line in lines for phone, _ in line["phones"])
        index = {phone: i for i, (phone, _) in enumerate(counts.most_common(PHONES - 1))}
        self.phones = np.full(len(self.audio) // HOP + 1, PHONES - 1, dtype=np.uint8)
        for line in lines:
            ends = [begin for _, begin in line["phones"][1:]] + [line["length"] / SAMPLE_RATE]
            for (phone, begin), end in zip(line["phones"], ends, strict=True):
                first, last = ((line["start"] + round(time * SAMPLE_RATE)) // HOP for time in (begin, end))
                self.phones[first:last] = index.get(phone.translate(MARKS), PHONES - 1)

    def sound(self, line: dict[str, Any]) -> Tensor:
        """The audio of one line of the index: float32 ``[N]``."""
        samples = self._whole[line["start"] : line["start"] + line["length"]]
        return torch.from_numpy(samples.astype(np.float32) / 32767.0)

    def batch_at(self, step: int, size: int, seconds: float, seed: int) -> Batch:
        """The batch of a step. It depends only on seed and step, so a resumed run gets the same batches.

        Args:
            step: The step.
            size: Number of segments.
            seconds: Length of a segment.
            seed: The seed.
        """
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        frames = int(seconds * SAMPLE_RATE) // HOP
        starts = torch.randint(len(self.audio) // HOP - frames, (size,), generator=generator).tolist()
        pieces = np.stack([self.audio[start * HOP : (start + frames) * HOP] for start in starts])
        gains = 10.0 ** (torch.empty(size, 1).uniform_(-8.0, 4.0, generator=generator) / 20.0)
        noise = torch.randn(pieces.shape, generator=generator) * DITHER
        audio = (torch.from_numpy(pieces).float() / 32767.0 * gains + noise).clamp(-1, 1)
        phones = np.stack([self.phones[start : start + frames] for start in starts])
        return Batch(audio[:, None], torch.from_numpy(phones).long())
