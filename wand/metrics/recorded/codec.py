"""What the round trip through a codec costs: intelligibility (STOI) and quality (PESQ)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.audio.pesq import perceptual_evaluation_speech_quality
from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility

from wand.files.audio import resample

# Wide-band PESQ is defined at this rate.
PESQ_RATE = 16_000


class CodecFidelity(Metric):
    """How much of a sound is left after a codec: means over all sounds.

    Both measures compare sounds sample by sample, so they say nothing about speech that a model spoke.

    Args:
        with_pesq: Whether PESQ is measured too; it needs the package `pesq`, which is compiled when it is installed.

    Raises:
        ValueError: If a package is missing.
    """

    is_differentiable = False
    full_state_update = False
    count: Tensor
    codec_stoi: Tensor
    codec_pesq: Tensor

    def __init__(self, with_pesq: bool = False) -> None:
        super().__init__()
        for package in ("pystoi", "pesq") if with_pesq else ("pystoi",):
            if find_spec(package) is None:
                raise ValueError(f'CodecFidelity needs {package}: pip install "wand-tts[fidelity]"')
        self.names = ("codec_stoi", "codec_pesq") if with_pesq else ("codec_stoi",)
        for name in ("count", *self.names):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sounds: Sequence[Tensor], originals: Sequence[Tensor], sample_rate: int) -> None:
        """Add audio ``[N]`` from the codec and the original ``[M]`` of each. The longer one is cut.

        Raises:
            ValueError: If PESQ finds no speech in an original.
        """
        for sound, original in zip(sounds, originals, strict=True):
            length = min(len(sound), len(original))
            found, wanted = (audio[:length].float().cpu() for audio in (sound, original))
            self.codec_stoi = self.codec_stoi + short_time_objective_intelligibility(found, wanted, sample_rate)
            if "codec_pesq" in self.names:
                self.codec_pesq = self.codec_pesq + _pesq(found, wanted, sample_rate)
            self.count = self.count + 1

    def compute(self) -> dict[str, Tensor]:
        """Means: ``codec_stoi``, at most 1, and with PESQ ``codec_pesq``, from 1 to 4.6 (wide band)."""
        return {name: getattr(self, name) / self.count for name in self.names}


def _pesq(sound: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    from pesq import NoUtterancesError

    found, wanted = (resample(audio, sample_rate, PESQ_RATE) for audio in (sound, original))
    try:
        return perceptual_evaluation_speech_quality(found, wanted, PESQ_RATE, "wb")
    except NoUtterancesError as error:
        raise ValueError(
            f"PESQ finds no speech in an original of {len(original) / sample_rate:.2f} s: leave it out"
        ) from error
