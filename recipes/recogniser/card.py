"""The card of the recogniser."""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.recogniser.evaluation import Errors, table
from recipes.recogniser.round_trips import BURIED_DB, FAULTS, SHARES
from recipes.recogniser.training import Training
from wand.files.writing import write_text
from wand.recognition.embedded import load_network
from wand.recognition.network import SAMPLE_RATE


def write_card(
    folder: Path, training: Training, errors: dict[tuple[str, str], Errors], arguments: argparse.Namespace
) -> None:
    """Write the card beside the weights.

    Args:
        folder: Folder of the weights.
        training: The finished training.
        errors: Error rates on the test split.
        arguments: The command line of the last call.
    """
    speech = training.batches.speech
    kind = training.batches.augmentation
    clock = training.clock
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    voices = sorted({utterance.speaker for utterance in speech.utterances})
    text = template.format(
        parameters=sum(p.numel() for p in load_network(folder).parameters()) / 1e6,
        size=(folder / "model.safetensors").stat().st_size / 1e6,
        utterances=len(speech),
        hours=speech.samples.sum() / SAMPLE_RATE / 3600,
        voices=", ".join(voices),
        coded=100 * training.batches.coded_share,
        codecs=", ".join(f"{name} {100 * share:.0f} %" for name, share in SHARES.items()),
        faults=100 * FAULTS,
        buried=BURIED_DB,
        kind=kind,
        clock=clock,
        heard=clock.heard / 3600,
        minutes=clock.seconds / 60,
        arguments=arguments,
        rows=table(errors),
    )
    write_text(folder / "README.md", text)
