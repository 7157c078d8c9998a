"""Train the small recogniser that wand embeds: ``python -m recipes.recogniser.train --out runs/recogniser``."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm  # type: ignore[import-untyped]

from wand.codecs import EncodecCodec
from wand.data.sources.source import Utterance
from wand.demo.corpus import UNSEEN_VOICE, VOICES, EspeakCorpus
from wand.metrics.words import ErrorRates
from wand.recognition.embedded import EmbeddedRecogniser, load_network, save_network
from wand.recognition.network import (
    BLANK,
    LETTERS,
    SAMPLE_RATE,
    RecogniserNetwork,
    RecogniserShape,
    pad,
)
from wand.text.characters import clean
from wand.text.english import spell
from wand.training.optimizer import learning_rate_factor

CODEC_SHARE = 0.4
SPEEDS = (0.9, 1.1)
NOISE_DB = (8.0, 45.0)
KINDS = ("original", "coded")
SEEN = frozenset(voice.name for voice in VOICES)

CARD = """# Small recogniser

A convolutional CTC network ({parameters:.2f} M parameters, fp16, {size:.1f} MB) that transcribes the synthetic
English of `wand.demo`, from log mel spectra to letters, without a language model. It measures CER and WER of the
embedded voice. It was trained only on espeak-ng's voices and a small vocabulary. For human speech, give `--recogniser`
another model.

## Training

{hours:g} hours of sentences from `wand.demo` in espeak-ng's seen voices (seed {seed}), {share:.0f} % of them after a
round trip through `wand/assets/codec`. Augmentation: speed ({slow:g} to {fast:g}), noise ({loud:g} to {faint:g} dB
below the speech), loudness. No speech of a model was used. {steps} steps of {batch} utterances, AdamW,
{minutes:.0f} minutes on {threads} of 2 CPU cores shared with other work.
Recipe: `python -m recipes.recogniser.train`.

## Figures

Test sentences that are in no training split: {sentences} in the seen voices, {unseen_sentences} in the unseen one.

| speech | CER % | WER % |
|---|---|---|
{rows}

Licence: Apache-2.0, weights included.
"""


class Speech:
    """Spoken sentences and their round trips through the codec, as int16. They are made once and cached in a folder.

    Args:
        corpus: The corpus of the sentences.
        split: Split of the corpus.
        folder: Folder of the cache.
    """

    def __init__(self, corpus: EspeakCorpus, split: str, folder: Path) -> None:
        self.utterances = corpus.utterances(split)
        path = folder / f"{split}-{corpus.fingerprint}.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _make(corpus, self.utterances, path, split)
        stored = np.load(path)
        self.ends = np.cumsum([0, *stored["lengths"]])
        self.original, self.coded = stored["original"], stored["coded"]

    def __len__(self) -> int:
        return len(self.utterances)

    def get(self, index: int, coded: bool) -> Tensor:
        """The audio of one utterance, float32 ``[N]``."""
        samples = (self.coded if coded else self.original)[self.ends[index] : self.ends[index + 1]]
        return torch.from_numpy(samples.astype(np.float32) / 32767.0)


_speaker: tuple[EspeakCorpus, EncodecCodec]


def _start(corpus: EspeakCorpus, codec: EncodecCodec) -> None:
    global _speaker
    _speaker = corpus, codec
    torch.set_num_threads(1)


def _speak(utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
    corpus, codec = _speaker
    audio = corpus.audio(utterance).clamp(-1, 1)
    again = codec.decode(codec.encode(audio[None, None], SAMPLE_RATE))[0, 0, : len(audio)].clamp(-1, 1)
    return tuple((sound.numpy() * 32767).astype(np.int16) for sound in (audio, again))  # type: ignore[return-value]


def _make(corpus: EspeakCorpus, utterances: Sequence[Utterance], path: Path, split: str) -> None:
    with get_context("spawn").Pool(2, _start, (corpus, EncodecCodec())) as pool:
        spoken = list(tqdm(pool.imap(_speak, utterances, chunksize=8), f"{split} speech", len(utterances)))
    original, coded = ([pair[i] for pair in spoken] for i in range(2))
    partial = path.with_suffix(".partial.npz")
    lengths = [len(sound) for sound in original]
    np.savez(partial, original=np.concatenate(original), coded=np.concatenate(coded), lengths=lengths)
    partial.replace(path)


def distorted(audio: Tensor, rng: random.Random) -> Tensor:
    """The audio with a random speed (and pitch), loudness and noise (white or coloured)."""
    speed = rng.uniform(*SPEEDS)
    audio = functional.interpolate(audio[None, None], size=int(len(audio) / speed), mode="linear")[0, 0]
    noise = torch.randn(len(audio), generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    if rng.random() < 0.5:
        width = rng.randint(2, 12)
        noise = functional.avg_pool1d(noise[None], width, 1, width // 2)[0, : len(audio)]
    level = audio.std() * 10 ** (-rng.uniform(*NOISE_DB) / 20)
    return (audio + noise * level / noise.std()) * 10 ** rng.uniform(-0.7, 0.2)


def batch_at(step: int, speech: Speech, batches: list[list[int]], seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """The batch of a step. It depends only on seed and step, so a resumed run gets the same batches."""
    epoch, index = divmod(step, len(batches))
    chosen = random.Random(f"{seed}/{epoch}").sample(batches, len(batches))[index]
    rng = random.Random(f"{seed}/{step}/augmentation")
    sounds = [distorted(speech.get(i, rng.random() < CODEC_SHARE), rng) for i in chosen]
    return *pad(sounds), [spoken_letters(speech.utterances[i].text) for i in chosen]


def spoken_letters(text: str) -> str:
    """The letters that are heard: numbers and abbreviations as words, no punctuation."""
    return " ".join("".join(letter if letter in LETTERS else " " for letter in spell(clean(text)).lower()).split())


def ctc_loss(network: RecogniserNetwork, audio: Tensor, lengths: Tensor, texts: Sequence[str]) -> Tensor:
    """CTC loss per letter, averaged over the rows."""
    scores, steps = network(audio, lengths)
    targets = [torch.tensor([LETTERS.index(letter) for letter in text]) for text in texts]
    sizes = torch.tensor([len(target) for target in targets])
    return functional.ctc_loss(scores.transpose(0, 1), torch.cat(targets), steps, sizes, BLANK, zero_infinity=True)


def error_rates(speech: Speech, folder: Path, coded: bool, voices: frozenset[str] = SEEN) -> dict[str, float]:
    """CER and WER of the network in a folder, for the sentences of some voices."""
    metric = ErrorRates(EmbeddedRecogniser(folder))
    chosen = [i for i, utterance in enumerate(speech.utterances) if utterance.speaker in voices]
    sounds = [speech.get(i, coded) for i in chosen]
    metric.update(sounds, SAMPLE_RATE, [speech.utterances[i].text for i in chosen])
    return {name: float(value) for name, value in metric.compute().items()}


def train(arguments: argparse.Namespace) -> RecogniserNetwork:
    """Train and save regularly. A run that was stopped continues from its last checkpoint."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    corpus = EspeakCorpus(arguments.hours, arguments.seed, arguments.sentences, arguments.sentences)
    speech = Speech(corpus, "train", arguments.out / "speech")
    validation = Speech(corpus, "validation", arguments.out / "speech")
    order = sorted(range(len(speech)), key=lambda i: speech.ends[i + 1] - speech.ends[i])
    batches = [order[i : i + arguments.batch] for i in range(0, len(order), arguments.batch)]
    network = RecogniserNetwork(RecogniserShape())
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.lr, betas=(0.9, 0.98), weight_decay=0.01)
    path = arguments.out / "checkpoint.pt"
    step, minutes = 0, 0.0
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step, minutes = saved["step"], saved["minutes"]
    bar = tqdm(total=arguments.steps, initial=step, mininterval=5)
    begin = time.monotonic() - 60 * minutes
    while step < arguments.steps:
        network.train()
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * learning_rate_factor(step, arguments.steps // 10, arguments.steps)
        loss = ctc_loss(network, *batch_at(step, speech, batches, arguments.seed))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if step % arguments.save_every == 0 or step == arguments.steps:
            minutes = (time.monotonic() - begin) / 60
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "minutes": minutes}, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
            save_network(network, arguments.out / "export")
            load_network.cache_clear()
            rates = {kind: error_rates(validation, arguments.out / "export", kind == "coded") for kind in KINDS}
            tqdm.write(f"step {step}, {minutes:.1f} min: {rates}")
    return network


def write_card(arguments: argparse.Namespace) -> None:
    """Measure the exported network on the test split and write its card beside the weights."""
    folder = arguments.out / "export"
    corpus = EspeakCorpus(arguments.hours, arguments.seed, arguments.sentences, arguments.sentences)
    test = Speech(corpus, "test", arguments.out / "speech")
    unseen = frozenset({UNSEEN_VOICE.name})
    lines = []
    for name, voices in (("seen voices", SEEN), ("unseen voice", unseen)):
        for kind in KINDS:
            rates = error_rates(test, folder, kind == "coded", voices)
            heard = "original" if kind == "original" else "through the codec"
            lines.append(f"| {name}, {heard} | {100 * rates['cer']:.2f} | {100 * rates['wer']:.2f} |")
    saved = torch.load(arguments.out / "checkpoint.pt", weights_only=True)
    count = sum(utterance.speaker in SEEN for utterance in test.utterances)
    card = CARD.format(
        parameters=sum(p.numel() for p in load_network(folder).parameters()) / 1e6,
        size=(folder / "model.safetensors").stat().st_size / 1e6,
        share=100 * CODEC_SHARE,
        slow=SPEEDS[0],
        fast=SPEEDS[1],
        loud=NOISE_DB[0],
        faint=NOISE_DB[1],
        minutes=saved["minutes"],
        sentences=count,
        unseen_sentences=len(test) - count,
        rows="\n".join(lines),
        **{name: getattr(arguments, name) for name in ("hours", "seed", "steps", "batch", "threads")},
    )
    (folder / "README.md").write_text(card)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/recogniser"), help="folder of the run")
    parser.add_argument("--hours", type=float, default=4.0, help="hours of training speech")
    parser.add_argument("--sentences", type=int, default=256, help="sentences of the validation and the test split")
    parser.add_argument("--steps", type=int, default=3000, help="total number of optimiser steps")
    parser.add_argument("--batch", type=int, default=8, help="utterances per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="seed of corpus, weights and batches")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    train(arguments)
    write_card(arguments)


if __name__ == "__main__":
    main()
