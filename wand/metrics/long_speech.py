"""Metrics of long speech, accumulated over utterances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from wand.metrics.edits import edits
from wand.metrics.prosody import by_part, prosody, thirds
from wand.metrics.seams import seams
from wand.recognition.base import Recogniser


class LongErrors(Metric):
    """Errors of long speech: CER by thirds of the text, missing sentences, skips and insertions.

    Args:
        recogniser: Transcribes the speech, whatever its length (see `wand.recognition.Piecewise`).
    """

    is_differentiable = False
    full_state_update = False
    wrong: Tensor
    letters: Tensor
    missing: Tensor
    skip: Tensor
    insertion: Tensor

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.recogniser = recogniser
        for name in ("wrong", "letters"):
            self.add_state(name, torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("missing", torch.tensor(0), dist_reduce_fx="sum")
        for name in ("skip", "insertion"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="max")

    def update(self, sounds: Sequence[Tensor], sample_rate: int, texts: Sequence[Sequence[str]]) -> None:
        """Add audio ``[N]`` and the sentences of each.

        Raises:
            ValueError: If a text has no words.
        """
        transcripts = self.recogniser.transcribe(sounds, sample_rate)
        for heard, sentences in zip(transcripts, texts, strict=True):
            found = edits(heard, sentences, self.recogniser.language)
            wrong, letters = torch.tensor(found.by_third(), dtype=torch.float64).T.to(self.wrong)
            self.wrong, self.letters = self.wrong + wrong, self.letters + letters
            self.missing = self.missing + len(found.missing())
            self.skip = self.skip.clamp(min=found.longest_skip().symbols)
            self.insertion = self.insertion.clamp(min=found.longest_insertion().symbols)

    def compute(self) -> dict[str, Tensor]:
        """``cer``; ``cer_first``, ``cer_middle`` and ``cer_last`` of the thirds; ``growth`` from first to last.

        Also ``missing``, the number of missing sentences, and ``skip`` and ``insertion``, the numbers of symbols of the
        longest ones.
        """
        first, middle, last = self.wrong / self.letters
        return {
            "cer": self.wrong.sum() / self.letters.sum(),
            "cer_first": first,
            "cer_middle": middle,
            "cer_last": last,
            "growth": last - first,
            "missing": self.missing,
            "skip": self.skip,
            "insertion": self.insertion,
        }


class Steadiness(Metric):
    """How steady the voice of long speech is: medians over all utterances and all seams."""

    is_differentiable = False
    full_state_update = False
    NAMES = ("pitch_drift", "level_drift", "seam_pitch", "seam_level", "seam_pause")

    def __init__(self) -> None:
        super().__init__()
        for name in self.NAMES:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, sounds: Sequence[Tensor], sample_rate: int, times: Sequence[Sequence[float]]) -> None:
        """Add audio ``[N]`` and the times of the seams of each, in seconds."""
        for sound, own in zip(sounds, times, strict=True):
            measured = prosody(sound, sample_rate)
            parts, steps = by_part(measured, thirds(measured.seconds)), seams(measured, own)
            drifts = torch.tensor([[parts.pitch_drift], [parts.level_drift]])
            for name, values in zip(self.NAMES, (*drifts, steps.pitch, steps.level, steps.pause), strict=True):
                getattr(self, name).append(values.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Medians; NaN where there is nothing to measure.

        ``pitch_drift`` (semitones) and ``level_drift`` (dB) from the first to the last third of the sound;
        ``seam_pitch`` (semitones), ``seam_level`` (dB) and ``seam_pause`` (seconds).
        """
        return {name: dim_zero_cat(getattr(self, name)).nanmedian() for name in self.NAMES}
