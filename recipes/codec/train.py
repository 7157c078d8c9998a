"""Train the tiny codec that wand embeds: `python -m recipes.codec.train --out runs/codec`."""

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import EncodecConfig, EncodecModel
from transformers.models.encodec.modeling_encodec import EncodecConv1d, EncodecConvTranspose1d

from recipes.codec.evaluate import evaluate, load, write_card
from recipes.codec.losses import SpectralLoss
from recipes.codec.quantizer import kmeans_init, quantize, whiteness
from wand.data.sources.source import Utterance
from wand.demo.corpus import UNSEEN_VOICE, EspeakCorpus

SAMPLE_RATE = 16_000
HOP = 320
COMMITMENT_WEIGHT = 0.25
# Digital silence between words spoils log spectra, so a faint noise is added, 66 dB below full scale.
DITHER = 5e-4
KMEANS_BATCHES = 48
# Before the quantiser is used, noise replaces its error and a stronger loss keeps the latents white.
LATENT_NOISE = 0.3
WARM_WHITENESS = 0.3
WHITENESS = 0.02


def codec_config() -> EncodecConfig:
    """16 kHz mono, 50 frames a second, four codebooks of 256 entries (1.6 kbit/s), everything causal."""
    return EncodecConfig(
        target_bandwidths=[1.6],
        sampling_rate=SAMPLE_RATE,
        audio_channels=1,
        num_filters=16,
        upsampling_ratios=[5, 4, 4, 4],
        hidden_size=32,
        codebook_size=256,
        num_lstm_layers=1,
        use_conv_shortcut=False,
        # Reflection padding would need future samples at the start of a stream.
        pad_mode="constant",
    )


@torch.no_grad()
def unit_variance_init(model: EncodecModel, audio: Tensor) -> None:
    """Scale every convolution so that its output has unit variance. With the default, the latents stay near zero.

    Args:
        model: The codec. It is changed in place.
        audio: Speech on which the variance is measured, `[B, 1, N]`.
    """
    convolutions = [m.conv for m in model.modules() if isinstance(m, EncodecConv1d | EncodecConvTranspose1d)]
    last = convolutions[-1]

    def rescale(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        scale = (audio.std() if module is last else 1.0) / output.std()
        module.get_parameter("parametrizations.weight.original0").mul_(scale)
        return output * scale

    for convolution in convolutions:
        nn.init.zeros_(convolution.get_parameter("bias"))
    handles = [convolution.register_forward_hook(rescale) for convolution in convolutions]
    model.decoder(model.encoder(audio))
    for handle in handles:
        handle.remove()


def use_plain_lstm(model: EncodecModel) -> None:
    """Run LSTMs without oneDNN. Its threads wait for each other at every frame and are very slow on a busy machine."""

    def plain(forward: Callable[..., object]) -> Callable[..., object]:
        def run(*inputs: object) -> object:
            with torch.backends.mkldnn.flags(enabled=False):
                return forward(*inputs)

        return run

    for module in model.modules():
        if isinstance(module, nn.LSTM):
            module.forward = plain(module.forward)  # type: ignore[assignment]


def _speak(corpus: EspeakCorpus, utterance: Utterance) -> np.ndarray:
    return (corpus.audio(utterance).clamp(-1, 1).numpy() * 32767).astype(np.int16)


def training_audio(corpus: EspeakCorpus, out: Path) -> np.ndarray:
    """The training split as one long int16 array `[N]`. Two processes make it, and it is cached in `out`."""
    path = out / f"train-{corpus.fingerprint}.npy"
    if not path.exists():
        utterances = corpus.utterances("train")
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            spoken = pool.imap(partial(_speak, corpus), utterances, chunksize=16)
            pieces = list(tqdm(spoken, total=len(utterances), desc="speech", mininterval=2))
        unfinished = path.with_suffix(".partial.npy")
        np.save(unfinished, np.concatenate(pieces))
        unfinished.replace(path)
    return np.load(path)


def batch_at(step: int, audio: np.ndarray, arguments: argparse.Namespace) -> Tensor:
    """The batch `[B, 1, N]` of a step. It depends only on seed and step, so a resumed run gets the same batches."""
    generator = torch.Generator().manual_seed(arguments.seed * 1_000_003 + step)
    length = int(arguments.segment * SAMPLE_RATE) // HOP * HOP
    starts = torch.randint(len(audio) - length, (arguments.batch,), generator=generator).tolist()
    pieces = torch.from_numpy(np.stack([audio[start : start + length] for start in starts])).float() / 32767.0
    gains = 10.0 ** (torch.empty(arguments.batch, 1).uniform_(-8.0, 4.0, generator=generator) / 20.0)
    noise = torch.randn(pieces.shape, generator=generator) * DITHER
    return (pieces * gains + noise).clamp(-1, 1)[:, None]


def learning_rate(step: int, arguments: argparse.Namespace) -> float:
    """The learning rate: a warm-up, a plateau, and a cosine decay over the last half."""
    warm = min(1.0, (step + 1) / 100)
    late = max(0.0, (step / arguments.steps - 0.5) / 0.5)
    return arguments.lr * warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * late)))


def save(state: dict[str, object], model: EncodecModel, out: Path) -> None:
    """Write the checkpoint for resuming, and the current codec in its final format (fp16)."""
    unfinished = out / "checkpoint.partial"
    torch.save(state, unfinished)
    unfinished.replace(out / "checkpoint.pt")
    exported = EncodecModel(model.config)
    exported.load_state_dict(model.state_dict())
    exported.half().save_pretrained(out / "export")


def train(arguments: argparse.Namespace) -> None:
    """Train from the start or from the checkpoint in `--out`, then evaluate and write the card."""
    config = codec_config()
    frames = int(arguments.segment * SAMPLE_RATE) // HOP
    latents_seen = min(arguments.warm_steps, KMEANS_BATCHES) * arguments.batch * frames
    if latents_seen < config.codebook_size:
        raise ValueError(
            f"--warm-steps {arguments.warm_steps}, --batch {arguments.batch} and --segment {arguments.segment} give "
            f"{latents_seen} latents before the quantiser is used, but at least {config.codebook_size} are needed"
        )
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    corpus = EspeakCorpus(arguments.hours, arguments.seed, arguments.sentences, arguments.sentences)
    audio = training_audio(corpus, out)
    model = EncodecModel(config)
    use_plain_lstm(model)
    unit_variance_init(model, batch_at(0, audio, arguments))
    criterion = SpectralLoss(SAMPLE_RATE, arguments.waveform_weight)
    optimizer = torch.optim.AdamW(model.parameters(), arguments.lr, betas=(0.8, 0.99), weight_decay=1e-4)
    start, seconds = 0, 0.0
    if (out / "checkpoint.pt").exists():
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, seconds = state["step"], state["seconds"]
    began = time.monotonic() - seconds
    progress = tqdm(range(start, arguments.steps), initial=start, total=arguments.steps, mininterval=5)
    for step in progress:
        generator = torch.Generator().manual_seed(arguments.seed + step)
        if step == arguments.warm_steps:
            with torch.no_grad():
                earlier = range(max(0, step - KMEANS_BATCHES), step)
                latents = torch.cat([model.encoder(batch_at(i, audio, arguments)) for i in earlier])
            kmeans_init(model.quantizer, latents.transpose(1, 2).flatten(0, 1), generator)
        batch = batch_at(step, audio, arguments)
        latents = model.encoder(batch)
        commitment = latents.new_zeros(())
        if step < arguments.warm_steps:
            regulariser = WARM_WHITENESS * whiteness(latents)
            latents = latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator)
        else:
            regulariser = WHITENESS * whiteness(latents)
            latents, commitment = quantize(model.quantizer, latents, generator)
        loss = criterion(model.decoder(latents)[:, 0], batch[:, 0], float(step >= arguments.envelope_from))
        optimizer.zero_grad(set_to_none=True)
        (loss + COMMITMENT_WEIGHT * commitment + regulariser).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments)
        optimizer.step()
        if step % 20 == 0:
            figures = {"loss": f"{loss.item():.3f}", "commit": f"{commitment.item():.3f}"}
            progress.set_postfix(figures, refresh=False)
        done = step + 1
        if done % arguments.save_every == 0 or done == arguments.steps:
            seconds = time.monotonic() - began
            optimizer_state = optimizer.state_dict()
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer_state,
                "step": done,
                "seconds": seconds,
            }
            save(state, model, out)
            if arguments.warm_steps < done < arguments.steps:
                few = corpus.utterances("validation")[:12]
                tqdm.write(f"step {done}: {evaluate(load(out / 'export'), corpus, few)}")
    codec = load(out / "export")
    seen = evaluate(codec, corpus, corpus.utterances("validation"))
    of_unseen = [u for u in corpus.utterances("test") if u.speaker == UNSEEN_VOICE.name]
    unseen = evaluate(codec, corpus, of_unseen)
    write_card(out / "export", codec, seen, unseen, arguments, seconds)
    print(f"validation, seen voices: {seen}\ntest, unseen voice: {unseen}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        description="Train the tiny codec that wand embeds. A run that was stopped continues when started again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("--out", type=Path, required=True, help="folder for audio, checkpoint and export/")
    result.add_argument("--steps", type=int, default=5000, help="total number of optimiser steps")
    result.add_argument("--hours", type=float, default=3.0, help="hours of training speech")
    result.add_argument("--batch", type=int, default=8, help="number of segments in a batch")
    result.add_argument("--segment", type=float, default=0.8, help="length of a segment in seconds")
    result.add_argument("--lr", type=float, default=5e-4, help="learning rate of the plateau")
    result.add_argument("--waveform-weight", type=float, default=0.1, help="weight of the waveform L1 loss")
    result.add_argument("--envelope-from", type=int, default=2000, help="first step with the band envelope loss")
    result.add_argument("--warm-steps", type=int, default=500, help="number of steps before the quantiser is used")
    result.add_argument("--save-every", type=int, default=250, help="steps between checkpoints")
    result.add_argument("--sentences", type=int, default=48, help="validation sentences of the final evaluation")
    result.add_argument("--seed", type=int, default=0, help="seed of corpus, weights and batches")
    result.add_argument("--threads", type=int, default=2, help="CPU threads")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
