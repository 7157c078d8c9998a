"""Train the small recogniser that wand embeds: ``python -m recipes.recogniser.train --out runs/recogniser``.

A run that was stopped continues from its last checkpoint. The learning rate stays constant until ``--decay`` is given,
so a training can go on over several calls. After the end of a decay, ``--decay`` begins another one, at the rate of
``--lr``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from recipes.corpus.recorded import Recorded
from recipes.recogniser.augmentation import Augmentation
from recipes.recogniser.batches import Batches
from recipes.recogniser.card import write_card
from recipes.recogniser.evaluation import evaluate, known_words, table
from recipes.recogniser.speech import Speech
from recipes.recogniser.training import Training
from wand.data.sources.source import SpeechSource
from wand.demo.corpus import EspeakCorpus
from wand.recognition.embedded import load_network, save_network

CODED_SHARE = 0.4
TRAINING_CONDITIONS = ("mixed",)
TEST_CONDITIONS = ("codec", "opus", "buried")


def open_corpus(arguments: argparse.Namespace) -> SpeechSource:
    """The corpus of the command line."""
    if arguments.corpus:
        return Recorded(arguments.corpus)
    return EspeakCorpus(arguments.hours, arguments.seed, arguments.sentences, arguments.sentences)


def train(arguments: argparse.Namespace) -> None:
    """Train until a limit of the command line is reached; after the final decay, write the card."""
    torch.set_num_threads(arguments.threads)
    corpus = open_corpus(arguments)
    folder: Path = arguments.out / "speech"
    speech = Speech(corpus, "train", folder, TRAINING_CONDITIONS, arguments.processes)
    validation = Speech(corpus, "validation", folder, TEST_CONDITIONS, arguments.processes)
    known = known_words(speech)
    training = Training(
        Batches(speech, arguments.batch, CODED_SHARE, Augmentation(), arguments.seed),
        arguments.lr,
        seed=arguments.seed,
        bf16=arguments.bf16,
    )
    checkpoint = arguments.out / "checkpoint.pt"
    if checkpoint.is_file():
        training.load(checkpoint)
    clock = training.clock
    if arguments.decay:
        clock.begin_decay(arguments.decay)
    parameters = sum(p.numel() for p in training.network.parameters()) / 1e6
    print(f"{len(speech)} utterances, {len(training.batches)} batches, {parameters:.2f} M parameters", flush=True)
    begin, limit = time.monotonic() - clock.seconds, clock.seconds + 60 * arguments.minutes
    saved = clock.step
    while not clock.ended and clock.step < arguments.steps and clock.seconds < limit:
        losses = training.step()
        clock.seconds = time.monotonic() - begin
        if clock.step % arguments.print_every == 0:
            print(_line(training, losses), flush=True)
        if clock.step % arguments.save_every == 0:
            training.save(checkpoint)
            saved = clock.step
        if clock.step % arguments.evaluate_every == 0:
            network = training.network.eval()
            print(table(evaluate(network, validation, known), lambda group: "voice" not in group), flush=True)
    if clock.step > saved:
        training.save(checkpoint)
    export = arguments.out / "export"
    save_network(training.network, export)
    load_network.cache_clear()
    print(table(evaluate(load_network(export), validation, known)), flush=True)
    if clock.ended:
        test = Speech(corpus, "test", folder, TEST_CONDITIONS, arguments.processes)
        write_card(export, training, evaluate(load_network(export), test, known), arguments)


def _line(training: Training, losses: tuple[float, ...]) -> str:
    clock = training.clock
    figures = " ".join(f"{loss:.3f}" for loss in losses)
    return (
        f"step {clock.step}, {clock.seconds / 60:.1f} min, {clock.heard / 3600:.2f} h heard, "
        f"losses (letters, early phones, phones) {figures}, rate {clock.learning_rate(training.rate):.2e}"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--out", type=Path, default=Path("runs/recogniser"), help="folder of the run")
    result.add_argument("--corpus", type=Path, help="folder of recipes.corpus.speak; without it, wand.demo speaks")
    result.add_argument("--hours", type=float, default=4.0, help="hours of training speech of wand.demo")
    result.add_argument("--sentences", type=int, default=256, help="validation and test sentences of wand.demo")
    result.add_argument("--minutes", type=float, default=170.0, help="longest time of this call")
    result.add_argument("--steps", type=int, default=10**9, help="step at which this call ends at the latest")
    result.add_argument("--decay", type=int, default=0, help="begin the final decay now, with this number of steps")
    result.add_argument("--batch", type=float, default=48.0, help="seconds of speech in a batch")
    result.add_argument("--lr", type=float, default=2e-3, help="constant learning rate")
    result.add_argument("--print-every", type=int, default=50, help="steps between lines")
    result.add_argument("--save-every", type=int, default=250, help="steps between checkpoints")
    result.add_argument("--evaluate-every", type=int, default=1000, help="steps between error rates")
    result.add_argument("--seed", type=int, default=0, help="seed of corpus, weights and batches")
    result.add_argument("--threads", type=int, default=1, help="CPU threads")
    result.add_argument("--bf16", action="store_true", help="compute in bfloat16, for CPUs that know it")
    result.add_argument("--processes", type=int, default=0, help="processes that make round trips; 0: this one")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
