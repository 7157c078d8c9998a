"""Steps that are skipped because their loss or their gradients are not finite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from wand.finite import all_finite
from wand.training.accumulation import MicroBatch

# This number of skipped steps in a row ends the training. Under 16-mixed, the gradient scaler may need 16 skipped steps
# to go from its first scale, 2 ** 16, down to 1.
MOST_SKIPPED = 20
# Number of utterances that a message names.
MOST_NAMED = 64
REMEDY = "lower model.optimizer.learning_rate, or set trainer.precision to bf16-mixed or 32-true"


class SkippedSteps:
    """Counts the steps that were skipped.

    Attributes:
        total: Skipped steps of the whole run.
        in_a_row: Skipped steps since the last step that was taken.
    """

    def __init__(self) -> None:
        self.total = 0
        self.in_a_row = 0

    def taken(self) -> None:
        """Count a step that was taken."""
        self.in_a_row = 0

    def skipped(self, step: int, blamed: str) -> str:
        """Count a skipped step.

        Args:
            step: The step, counted from 0.
            blamed: What is not finite, as `blame` says it.

        Returns:
            The warning.

        Raises:
            ValueError: If too many steps in a row were skipped.
        """
        self.total += 1
        self.in_a_row += 1
        if self.in_a_row >= MOST_SKIPPED:
            raise ValueError(f"{self.in_a_row} steps in a row were skipped; in step {step}, {blamed}: {REMEDY}")
        return f"step {step} is skipped: {blamed}"

    def state_dict(self) -> dict[str, int]:
        """The counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from saved counts."""
        self.total, self.in_a_row = state["total"], state["in_a_row"]


def gradients_and_losses_finite(norm: Tensor, parts: Sequence[MicroBatch]) -> Tensor:
    """Whether the gradient norm and the losses of all micro-batches are finite: a bool tensor on their device."""
    return all_finite(torch.stack([norm.float(), *(part.sums.loss.float() for part in parts)]))


def non_finite_parts(parts: Iterable[MicroBatch]) -> list[tuple[int, tuple[str, ...]]]:
    """Number (from 1) and utterances of the micro-batches whose loss is not finite. Waits for the device."""
    return [(number, part.ids) for number, part in enumerate(parts, 1) if not all_finite(part.sums.loss)]


def blame(ranks: Sequence[Sequence[tuple[int, tuple[str, ...]]]], utterances: Sequence[str], count: int) -> str:
    """Say in words what is not finite in a step.

    Args:
        ranks: The result of `non_finite_parts` of each rank.
        utterances: All utterances of the step, of all ranks.
        count: Number of micro-batches.
    """
    numbers = sorted({number for parts in ranks for number, _ in parts})
    if not numbers:
        return f"the gradient of {_named(utterances)} is not finite"
    names = [name for parts in ranks for _, ids in parts for name in ids]
    where = "" if count == 1 else f" (micro-batch {', '.join(map(str, numbers))} of {count})"
    return f"the loss of {_named(names)}{where} is not finite"


def _named(names: Sequence[str]) -> str:
    if not names:
        return "a batch without ids"
    shown = ", ".join(repr(name) for name in names[:MOST_NAMED])
    rest = len(names) - MOST_NAMED
    return f"utterance{'s' * (len(names) > 1)} {shown}{f' and {rest} more' if rest > 0 else ''}"
