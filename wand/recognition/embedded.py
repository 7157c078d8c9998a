"""The small recogniser that comes with wand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wand.assets import asset_folder
from wand.checks import first_line
from wand.console.interrupt import raise_if_stopped
from wand.files.audio import SILENT_PEAK, resample
from wand.files.weights import write_safetensors
from wand.files.writing import write_text
from wand.finite import check_weights
from wand.recognition.base import transcribing
from wand.recognition.network import (
    HOP,
    SAMPLE_RATE,
    RecogniserNetwork,
    RecogniserShape,
    Scores,
    greedy_letters,
    greedy_phones,
    pad,
)

# Sounds with about this total duration, in seconds, form one batch. Larger batches are slower: they leave the cache.
BATCH_SECONDS = 30


class EmbeddedRecogniser:
    """A small CTC network for synthetic English, not for human speech. Its card says what it was trained on.

    Args:
        folder: Folder with ``config.json`` and ``model.safetensors``; the network that comes with wand by default.
    """

    name = "embedded"
    language = "en"

    def __init__(self, folder: Path | None = None) -> None:
        self.network = load_network(folder or asset_folder("recogniser"))

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """The most likely letters, without a language model."""
        texts = [""] * len(sounds)
        for places, scores in self._listen(sounds, sample_rate):
            for i, text in zip(places, greedy_letters(scores.letters, scores.steps), strict=True):
                texts[i] = text
        return texts

    def phones(self, sounds: Sequence[Tensor], sample_rate: int) -> list[list[str]]:
        """The most likely phones of each sound, in the notation of `wand.recognition.network.PHONES`.

        Raises:
            ValueError: If the network was trained without phones.
        """
        if not self.network.shape.phones_after:
            raise ValueError("this recogniser knows letters only: its config.json has no `phones_after`")
        heard: list[list[str]] = [[] for _ in sounds]
        for places, scores in self._listen(sounds, sample_rate):
            for i, phones in zip(places, greedy_phones(scores.phones[-1], scores.steps), strict=True):
                heard[i] = phones
        return heard

    @torch.inference_mode()
    def _listen(self, sounds: Sequence[Tensor], sample_rate: int) -> Iterator[tuple[list[int], Scores]]:
        """The places of the sounds of each batch, and what the network hears. Inaudible sounds are left out."""
        heard = [resample(sound.float().cpu(), sample_rate, SAMPLE_RATE) for sound in sounds]
        audible = sorted((i for i in range(len(heard)) if is_audible(heard[i])), key=lambda i: len(heard[i]))
        with transcribing(len(audible)) as counted:
            while audible:
                raise_if_stopped()
                longest = len(heard[audible[-1]])
                count = max(1, BATCH_SECONDS * SAMPLE_RATE // longest)
                audible, chosen = audible[:-count], audible[-count:]
                yield chosen, self.network(*pad([heard[i] for i in chosen]))
                counted.update(counted.done + len(chosen))


def is_audible(sound: Tensor) -> bool:
    """Whether a sound is audible. The network would find letters in digital silence too."""
    return len(sound) >= HOP and float(sound.abs().max()) >= SILENT_PEAK


@cache
def load_network(folder: Path) -> RecogniserNetwork:
    """Load the network of a folder in eval mode. It is cached, because metrics and callbacks use it again."""
    try:
        with torch.random.fork_rng(devices=[]):  # a fit that opens it later draws the same numbers
            network = RecogniserNetwork(RecogniserShape(**json.loads((folder / "config.json").read_text())))
        network.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    except (OSError, SafetensorError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"no recogniser can be read from {folder}: {first_line(error)}") from error
    check_weights(network.state_dict(), f"recogniser {folder}")
    return network.eval().requires_grad_(False)


def save_network(network: RecogniserNetwork, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` (fp16)."""
    write_text(folder / "config.json", json.dumps(asdict(network.shape), indent=2) + "\n")
    weights = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    write_safetensors(weights, folder / "model.safetensors")
