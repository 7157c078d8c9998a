"""The training of the recogniser: loss, schedule, and a state from which it continues exactly."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recipes.recogniser.augmentation import masked, warped
from recipes.recogniser.batches import Batch, Batches
from wand.files.writing import replacing
from wand.recognition.network import (
    BLANK,
    LETTERS,
    PHONE_BLANK,
    PHONES,
    SAMPLE_RATE,
    RecogniserNetwork,
    RecogniserShape,
    Scores,
)

SHAPE = RecogniserShape(mels=64, width=288, layers=12, kernel=9, phones_after=6)
WARMUP = 500
# Weights of the losses: letters, phones inside the trunk, phones at its end.
WEIGHTS = (1.0, 0.5, 0.5)
LARGEST_NORM = 1.0
_LETTER = {letter: i for i, letter in enumerate(LETTERS)}
_PHONE = {phone: i for i, phone in enumerate(PHONES)}


@dataclass
class Clock:
    """Where a training is.

    Args:
        step: Finished steps.
        heard: Seconds of speech in them.
        seconds: Time they took.
        decay_from: Step at which the final decay began; None while the learning rate is constant.
        decay: Steps of the final decay.
    """

    step: int = 0
    heard: float = 0.0
    seconds: float = 0.0
    decay_from: int | None = None
    decay: int = 0

    @property
    def ended(self) -> bool:
        """Whether the decay is finished."""
        return self.decay_from is not None and self.step >= self.decay_from + self.decay

    def begin_decay(self, steps: int) -> None:
        """Begin the final decay. One that goes on stays as it is; after its end, a new one may begin."""
        if self.decay_from is None or self.ended:
            self.decay_from, self.decay = self.step, steps

    def learning_rate(self, peak: float) -> float:
        """A linear rise, a constant rate for as long as the training goes on, and a linear fall to 0 at its end."""
        rise = min(1.0, (self.step + 1) / WARMUP)
        done = 0.0 if self.decay_from is None else (self.step - self.decay_from) / self.decay
        return peak * rise * max(0.0, 1.0 - done)


class Training:
    """A network, its optimiser and its clock.

    Args:
        batches: The batches.
        rate: Constant learning rate.
        shape: Shape of the network.
        seed: Seed of the first weights.
        bf16: Compute in bfloat16, which is faster on CPUs that know it.
    """

    def __init__(
        self, batches: Batches, rate: float, shape: RecogniserShape = SHAPE, seed: int = 0, bf16: bool = False
    ) -> None:
        torch.manual_seed(seed)
        self.batches = batches
        self.rate = rate
        self.bf16 = bf16
        self.network = RecogniserNetwork(shape)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.clock = Clock()

    def step(self) -> tuple[float, ...]:
        """Take one step. Returns the losses of letters, of phones inside the trunk, and of phones at its end."""
        batch = self.batches.at(self.clock.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.clock.learning_rate(self.rate)
        self.network.train()
        losses = ctc_losses(self.hear(batch), batch)
        self.optimizer.zero_grad()
        torch.stack([weight * loss for weight, loss in zip(WEIGHTS, losses, strict=True)]).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_NORM)
        self.optimizer.step()
        self.clock.step += 1
        self.clock.heard += float(batch.lengths.sum()) / SAMPLE_RATE
        return tuple(loss.item() for loss in losses)

    def hear(self, batch: Batch) -> Scores:
        """What the network hears in a batch whose spectra are augmented."""
        kind, rng = self.batches.augmentation, random.Random(f"spectra {self.batches.seed}/{self.clock.step}")
        with torch.no_grad():
            spectra, frames = self.network.spectra(batch.audio, batch.lengths)
            spectra, frames = warped(spectra, frames, rng, kind)
            spectra = masked(spectra, frames, rng, kind)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.network.read(spectra, frames)

    def save(self, path: Path) -> None:
        """Write everything that the training needs to continue."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "clock": vars(self.clock),
        }
        with replacing(path) as partial:
            torch.save(state, partial)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint."""
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.clock = Clock(**state["clock"])


def ctc_losses(scores: Scores, batch: Batch) -> list[Tensor]:
    """CTC losses per symbol, averaged over the rows: letters, phones inside the trunk, phones at its end."""
    letters = [torch.tensor([_LETTER[letter] for letter in label.letters]) for label in batch.labels]
    phones = [torch.tensor([_PHONE[phone] for phone in label.phones]) for label in batch.labels]
    heard = [(scores.letters, letters, BLANK), *((found, phones, PHONE_BLANK) for found in scores.phones)]
    return [ctc_loss(found, scores.steps, targets, blank) for found, targets, blank in heard]


def ctc_loss(found: Tensor, steps: Tensor, targets: list[Tensor], blank: int) -> Tensor:
    """CTC loss of log probabilities ``[B, T, V]``. Rows that are too short for their target do not count."""
    sizes = torch.tensor([len(target) for target in targets])
    return functional.ctc_loss(found.transpose(0, 1), torch.cat(targets), steps, sizes, blank, zero_infinity=True)
