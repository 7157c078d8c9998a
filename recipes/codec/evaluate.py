"""Measures the quality of a codec (STOI, mel distance, use of the codebooks) and writes its card."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pystoi import stoi
from torch import Tensor
from transformers import EncodecModel

from recipes.codec.losses import FLOOR, SpectralLoss
from wand.data.sources.source import Utterance
from wand.demo.corpus import UNSEEN_VOICE, VOICES, EspeakCorpus
from wand.text.espeak import espeak_version


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
def evaluate(codec: EncodecModel, corpus: EspeakCorpus, utterances: list[Utterance]) -> Scores:
    """Send utterances through the codec and back.

    Args:
        codec: The codec, float32.
        corpus: The corpus of the utterances.
        utterances: The utterances.
    """
    criterion = SpectralLoss(corpus.sample_rate)
    filters = criterion.get_buffer("mel_1024")
    intelligibility, distances, codes = [], [], []
    for utterance in utterances:
        audio = corpus.audio(utterance)
        # The type annotations of transformers do not cover these return values.
        encoded: Any = codec.encode(audio[None, None])
        decoded: Any = codec.decode(encoded.audio_codes, encoded.audio_scales)
        output = decoded.audio_values[0, 0, : len(audio)]
        codes.append(encoded.audio_codes[0, 0])
        intelligibility.append(stoi(audio.numpy(), output.numpy(), corpus.sample_rate))
        wanted, found = ((criterion.magnitude(x[None], 1024) @ filters + FLOOR).log() for x in (audio, output))
        distances.append(float((wanted - found).abs().mean()))
    return Scores(
        count=len(utterances),
        stoi=float(np.mean(intelligibility)),
        worst_stoi=float(np.min(intelligibility)),
        mel_distance=float(np.mean(distances)),
        perplexities=tuple(_perplexity(book, codec.config.codebook_size) for book in torch.cat(codes, dim=1)),
    )


def write_card(
    folder: Path,
    codec: EncodecModel,
    seen: Scores,
    unseen: Scores,
    arguments: argparse.Namespace,
    seconds: float,
) -> None:
    """Write the card next to the weights.

    Args:
        folder: Folder of the weights.
        codec: The codec that was evaluated.
        seen: Scores on validation sentences in voices of the training split.
        unseen: Scores on test sentences in the voice that was not trained on.
        arguments: Arguments of the training.
        seconds: Training time.
    """
    options = [f"--{name.replace('_', '-')} {value}" for name, value in vars(arguments).items() if name != "out"]
    rows = "".join(
        f"| {title} | {scores.stoi:.3f} | {scores.worst_stoi:.3f} | {scores.mel_distance:.3f} | "
        f"{', '.join(f'{value:.0f}' for value in scores.perplexities)} |\n"
        for title, scores in (("validation, seen voices", seen), ("test, unseen voice", unseen))
    )
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    text = template.format(
        parameters=sum(parameter.numel() for parameter in codec.parameters()) / 1e6,
        steps=arguments.steps,
        minutes=seconds / 60,
        threads=arguments.threads,
        hours=arguments.hours,
        voices=", ".join(voice.name for voice in VOICES),
        unseen=UNSEEN_VOICE.name,
        espeak=espeak_version(),
        seed=arguments.seed,
        envelope_from=arguments.envelope_from,
        seen_count=seen.count,
        unseen_count=unseen.count,
        rows=rows,
        options="\n".join(options),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
