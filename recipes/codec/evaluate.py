"""Measures the quality of a codec (STOI, mel distance, use of the codebooks) and writes its card."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pystoi import stoi
from torch import Tensor
from transformers import EncodecModel

from recipes.codec.losses import FLOOR, SpectralLoss
from recipes.codec.speech import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one evaluation: means over utterances, and perplexities over all frames."""

    count: int
    stoi: float
    worst_stoi: float
    mel_distance: float
    perplexities: tuple[float, ...]

    def __str__(self) -> str:
        perplexities = ", ".join(f"{value:.0f}" for value in self.perplexities)
        return (
            f"STOI {self.stoi:.4f} (worst {self.worst_stoi:.4f}), mel distance {self.mel_distance:.3f}, "
            f"codebook perplexities {perplexities}"
        )


def _perplexity(codes: Tensor, size: int) -> float:
    shares = torch.bincount(codes, minlength=size).float() / len(codes)
    return float(torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum()))


def load(folder: Path) -> EncodecModel:
    """The codec in a folder, as float32 (its file holds fp16)."""
    return EncodecModel.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def evaluate(codec: EncodecModel, sounds: Sequence[Tensor]) -> Scores:
    """Send utterances through the codec and back.

    Args:
        codec: The codec, float32.
        sounds: Spoken sentences, ``[N]`` at 16 kHz.
    """
    criterion = SpectralLoss(SAMPLE_RATE)
    filters = criterion.get_buffer("mel_1024")
    intelligibility, distances, codes = [], [], []
    for audio in sounds:
        # The type annotations of transformers do not cover these return values.
        encoded: Any = codec.encode(audio[None, None])
        decoded: Any = codec.decode(encoded.audio_codes, encoded.audio_scales)
        output = decoded.audio_values[0, 0, : len(audio)]
        codes.append(encoded.audio_codes[0, 0])
        intelligibility.append(stoi(audio.numpy(), output.numpy(), SAMPLE_RATE))
        wanted, found = ((criterion.magnitude(x[None], 1024) @ filters + FLOOR).log() for x in (audio, output))
        distances.append(float((wanted - found).abs().mean()))
    return Scores(
        count=len(sounds),
        stoi=float(np.mean(intelligibility)),
        worst_stoi=float(np.min(intelligibility)),
        mel_distance=float(np.mean(distances)),
        perplexities=tuple(_perplexity(book, codec.config.codebook_size) for book in torch.cat(codes, dim=1)),
    )


def write_card(
    folder: Path, codec: EncodecModel, scores: Scores, arguments: argparse.Namespace, seconds: float
) -> None:
    """Write the card next to the weights.

    Args:
        folder: Folder of the weights.
        codec: The codec that was evaluated.
        scores: Scores on validation sentences.
        arguments: Arguments of the training.
        seconds: Training time.
    """
    options = [f"--{name.replace('_', '-')} {value}" for name, value in vars(arguments).items()]
    perplexities = ", ".join(f"{value:.0f}" for value in scores.perplexities)
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    text = template.format(
        parameters=sum(parameter.numel() for parameter in codec.parameters()) / 1e6,
        steps=arguments.steps,
        minutes=seconds / 60,
        threads=arguments.threads,
        seed=arguments.seed,
        envelope_from=arguments.envelope_from,
        count=scores.count,
        row=f"{scores.stoi:.3f} | {scores.worst_stoi:.3f} | {scores.mel_distance:.3f} | {perplexities}",
        options="\n".join(option for option in options if not option.startswith(("--out", "--speech"))),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
