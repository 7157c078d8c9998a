"""Training speech of the codec: segments of spoken sentences, and the phone that is heard in every frame."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.corpus.recorded import Recorded

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
    """Spoken sentences one after another, from which segments are cut.

    Args:
        folder: Folder of `recipes.corpus.speak`.
        validation: Number of validation sentences to use.
    """

    def __init__(self, folder: Path, validation: int) -> None:
        corpus = Recorded(folder)
        self.validation = [corpus.audio(utterance) for utterance in corpus.utterances("validation")[:validation]]
        lines = list(corpus.lines["train"].values())
        parts = sorted({line.part for line in lines})
        self._sounds = {part: np.load(part, mmap_mode="r") for part in parts}
        self._phones = {part: np.full(len(self._sounds[part]) // HOP + 1, PHONES - 1, np.uint8) for part in parts}
        self._parts = parts
        self._frames = torch.tensor([len(self._sounds[part]) // HOP for part in parts])
        counts = Counter(phone.translate(MARKS) for line in lines for phone, _ in line.phones)
        index = {phone: i for i, (phone, _) in enumerate(counts.most_common(PHONES - 1))}
        for line in lines:
            ends = [begin for _, begin in line.phones[1:]] + [line.length / SAMPLE_RATE]
            for (phone, begin), end in zip(line.phones, ends, strict=True):
                first, last = ((line.start + round(time * SAMPLE_RATE)) // HOP for time in (begin, end))
                self._phones[line.part][first:last] = index.get(phone.translate(MARKS), PHONES - 1)

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
        chosen = torch.multinomial(self._frames.double(), size, replacement=True, generator=generator)
        starts = (torch.rand(size, generator=generator) * (self._frames[chosen] - frames)).long()
        places = [(self._parts[part], start) for part, start in zip(chosen.tolist(), starts.tolist(), strict=True)]
        pieces = np.stack([self._sounds[part][start * HOP : (start + frames) * HOP] for part, start in places])
        phones = np.stack([self._phones[part][start : start + frames] for part, start in places])
        gains = 10.0 ** (torch.empty(size, 1).uniform_(-8.0, 4.0, generator=generator) / 20.0)
        noise = torch.randn(pieces.shape, generator=generator) * DITHER
        audio = (torch.from_numpy(pieces).float() / 32768.0 * gains + noise).clamp(-1, 1)
        return Batch(audio[:, None], torch.from_numpy(phones).long())
