"""Train the tiny codec that wand embeds: `python -m recipes.codec.train --speech speech --out runs/codec`."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import EncodecModel

from recipes.codec.evaluate import evaluate, load, write_card
from recipes.codec.listener import Listener, listening_loss
from recipes.codec.losses import SpectralLoss
from recipes.codec.network import PhoneReader, codec_config, unit_variance_init
from recipes.codec.quantizer import kmeans_init, quantize, whiteness
from recipes.codec.speech import SAMPLE_RATE, Batch, Speech

COMMITMENT_WEIGHT = 0.25
PHONE_WEIGHT = 0.2
KMEANS_BATCHES = 48
# Before the quantiser is used, noise replaces its error and a stronger loss keeps the latents white.
LATENT_NOISE = 0.3
WARM_WHITENESS = 0.3
WHITENESS = 0.02


@dataclass
class Parts:
    """The modules of a training: the codec, and two that only help to train it."""

    codec: EncodecModel
    reader: PhoneReader
    listener: Listener
    optimizer: torch.optim.Optimizer

    @classmethod
    def new(cls, lr: float) -> Parts:
        """Modules with random weights."""
        config = codec_config()
        codec, reader, listener = EncodecModel(config), PhoneReader(config.hidden_size), Listener()
        weights = [*codec.parameters(), *reader.parameters(), *listener.parameters()]
        return cls(codec, reader, listener, torch.optim.AdamW(weights, lr, betas=(0.8, 0.99), weight_decay=1e-4))

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {name: getattr(self, name).state_dict() for name in self.__dataclass_fields__}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        for name in self.__dataclass_fields__:
            getattr(self, name).load_state_dict(state[name])


def learning_rate(step: int, arguments: argparse.Namespace) -> float:
    """The learning rate: a warm-up, a plateau, and a cosine decay from `--decay-from` to `--steps`."""
    warm = min(1.0, (step + 1) / 100)
    late = max(0.0, (step - arguments.decay_from) / max(1, arguments.steps - arguments.decay_from))
    return float(arguments.lr) * warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * late)))


def codec_loss(
    step: int, batch: Batch, parts: Parts, criterion: SpectralLoss, arguments: argparse.Namespace
) -> tuple[Tensor, dict[str, Tensor]]:
    """The codec's loss of one step, and figures for the log."""
    generator = torch.Generator().manual_seed(arguments.seed + step)
    with torch.autocast("cpu", torch.bfloat16, arguments.bf16):
        latents = parts.codec.encoder(batch.audio)
    latents = latents.float()
    first, commitment = latents, latents.new_zeros(())
    if step < arguments.warm_steps:
        regulariser = WARM_WHITENESS * whiteness(latents)
        latents = latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator)
    else:
        regulariser = WHITENESS * whiteness(latents)
        latents, first, commitment = quantize(parts.codec.quantizer, latents, generator)
    phones = functional.cross_entropy(parts.reader(first), batch.phones)
    with torch.autocast("cpu", torch.bfloat16, arguments.bf16):
        output = parts.codec.decoder(latents)[:, 0]
    output = output.float()
    spectral = criterion(output, batch.audio[:, 0], float(step >= arguments.envelope_from))
    own, listening = listening_loss(parts.listener, output, batch.audio[:, 0], batch.phones)
    loss = spectral + COMMITMENT_WEIGHT * commitment + regulariser + PHONE_WEIGHT * phones + own + listening
    figures = {"spectral": spectral, "commitment": commitment, "phones": phones, "own": own, "listening": listening}
    return loss, figures


def optimise(step: int, batch: Batch, parts: Parts, criterion: SpectralLoss, arguments: argparse.Namespace) -> str:
    """One optimiser step. Returns its figures."""
    rate = learning_rate(step, arguments)
    for group in parts.optimizer.param_groups:
        group["lr"] = rate
    loss, figures = codec_loss(step, batch, parts, criterion, arguments)
    parts.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parts.codec.parameters(), 2.0)
    parts.optimizer.step()
    return ", ".join(f"{name} {value.item():.3f}" for name, value in figures.items())


def start_quantizer(step: int, speech: Speech, codec: EncodecModel, arguments: argparse.Namespace) -> None:
    """Set the codebooks to k-means centres of the latents of the last batches."""
    size, seconds, seed = arguments.batch, arguments.segment, arguments.seed
    with torch.no_grad():
        batches = (speech.batch_at(i, size, seconds, seed) for i in range(max(0, step - KMEANS_BATCHES), step))
        latents = torch.cat([codec.encoder(batch.audio) for batch in batches])
    generator = torch.Generator().manual_seed(arguments.seed + step)
    kmeans_init(codec.quantizer, latents.transpose(1, 2).flatten(0, 1), generator)


def save(state: dict[str, Any], codec: EncodecModel, out: Path) -> None:
    """Write the checkpoint for resuming, and the current codec in its final format (fp16)."""
    unfinished = out / "checkpoint.partial"
    torch.save(state, unfinished)
    unfinished.replace(out / "checkpoint.pt")
    exported = EncodecModel(codec.config)
    exported.load_state_dict(codec.state_dict())
    exported.half().save_pretrained(out / "export")


def check(arguments: argparse.Namespace, codebook_size: int) -> None:
    """Raise ``ValueError`` if the codebooks would start from too few latents."""
    frames = int(arguments.segment * 50)
    latents_seen = min(arguments.warm_steps, KMEANS_BATCHES) * arguments.batch * frames
    if latents_seen < codebook_size:
        raise ValueError(
            f"--warm-steps {arguments.warm_steps}, --batch {arguments.batch} and --segment {arguments.segment} give "
            f"{latents_seen} latents before the quantiser is used, but at least {codebook_size} are needed"
        )


def train(arguments: argparse.Namespace) -> None:
    """Train from the start or from the checkpoint in `--out`, then evaluate and write the card."""
    check(arguments, codec_config().codebook_size)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    speech = Speech(arguments.speech, arguments.sentences)
    parts = Parts.new(arguments.lr)
    size, seconds = arguments.batch, arguments.segment
    unit_variance_init(parts.codec, speech.batch_at(0, size, seconds, arguments.seed).audio)
    criterion = SpectralLoss(SAMPLE_RATE, arguments.waveform_weight)
    start, spent = 0, 0.0
    if (out / "checkpoint.pt").exists():
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        parts.load(state["parts"])
        start, spent = state["step"], state["seconds"]
    began = time.monotonic() - spent
    for step in (progress := tqdm(range(start, arguments.steps), initial=start, total=arguments.steps, mininterval=30)):
        if step == arguments.warm_steps:
            start_quantizer(step, speech, parts.codec, arguments)
        figures = optimise(step, speech.batch_at(step, size, seconds, arguments.seed), parts, criterion, arguments)
        progress.set_postfix_str(figures, refresh=False)
        done = step + 1
        if done % arguments.save_every == 0 or done == arguments.steps:
            spent = time.monotonic() - began
            save({"parts": parts.state(), "step": done, "seconds": spent}, parts.codec, out)
            if arguments.warm_steps < done < arguments.steps:
                scores = evaluate(load(out / "export"), speech.validation[:12])
                tqdm.write(f"step {done}, {spent / 60:.0f} min, {figures}: {scores}")
    scores = evaluate(load(out / "export"), speech.validation)
    write_card(out / "export", load(out / "export"), scores, arguments, spent)
    print(f"validation: {scores}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        description="Train the tiny codec that wand embeds. A run that was stopped continues when started again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("--speech", type=Path, required=True, help="folder of recipes.corpus.speak")
    result.add_argument("--out", type=Path, required=True, help="folder for checkpoint and export/")
    result.add_argument("--steps", type=int, default=14_000, help="total number of optimiser steps")
    result.add_argument("--batch", type=int, default=8, help="number of segments in a batch")
    result.add_argument("--segment", type=float, default=0.8, help="length of a segment in seconds")
    result.add_argument("--lr", type=float, default=5e-4, help="learning rate of the plateau")
    result.add_argument("--decay-from", type=int, default=10_500, help="first step with a falling learning rate")
    result.add_argument("--waveform-weight", type=float, default=0.1, help="weight of the waveform L1 loss")
    result.add_argument("--envelope-from", type=int, default=500, help="first step with the band envelope loss")
    result.add_argument("--warm-steps", type=int, default=500, help="number of steps before the quantiser is used")
    result.add_argument("--save-every", type=int, default=250, help="steps between checkpoints")
    result.add_argument("--sentences", type=int, default=48, help="validation sentences of the evaluation")
    result.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    result.add_argument("--bf16", action="store_true", help="run the codec in bfloat16, where the CPU has it")
    result.add_argument("--threads", type=int, default=2, help="CPU threads")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
