"""Finds the attention heads of a model that look at the text that is spoken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from wand.alignment.reading import check_readable, read_speech
from wand.alignment.scores import HeadScores, score_shares
from wand.attention import Windows
from wand.model.alignment import AlignmentHead
from wand.model.backbone import Backbone
from wand.model.batch import Conditioning
from wand.passages.rules import largest_skip

# The least score of a head that passages can rely on. docs/alignment.md has the figures that it was chosen from.
THRESHOLD = 0.6


@dataclass(frozen=True, slots=True)
class RankedHead:
    """A head and its means over all speeches.

    Args:
        head: The head.
        score: Mean of the scores of the speeches (`HeadScores.score`).
        scores: Means of the parts.
    """

    head: AlignmentHead
    score: float
    scores: HeadScores


class HeadRanking:
    """Scores all heads of a model over speeches that are given. Only sums are kept.

    Args:
        backbone: The model, in eval mode.
        window: Its window.

    Attributes:
        speeches: Number of speeches so far.

    Raises:
        ValueError: If the adapter does not know where the text is in its prefix.
    """

    def __init__(self, backbone: Backbone, window: Windows) -> None:
        check_readable(backbone)
        self.backbone = backbone
        self.window = window
        self.speeches = 0
        self._skip = largest_skip(backbone)
        self._sums: dict[AlignmentHead, Tensor] = {}

    def add(self, conditioning: Conditioning, codes: Tensor) -> None:
        """Read a speech, such as a recording.

        Args:
            conditioning: Its text and its voice.
            codes: Its codes ``[K, F]``.
        """
        read_speech(self.backbone, self.window, conditioning, codes, self._note)
        self.speeches += 1

    def _note(self, head: AlignmentHead, shares: Tensor) -> None:
        scores = score_shares(shares, self._skip)
        values = torch.tensor([scores.score, *astuple(scores)], dtype=torch.float64)
        self._sums[head] = self._sums.get(head, 0) + values

    def ranked(self) -> list[RankedHead]:
        """All heads, the best one first."""
        means = [(head, (sums / self.speeches).tolist()) for head, sums in self._sums.items()]
        found = [RankedHead(head, score, HeadScores(*parts)) for head, (score, *parts) in means]
        return sorted(found, key=lambda ranked: (-ranked.score, ranked.head))


def heads_that_pass(ranked: Sequence[RankedHead], threshold: float = THRESHOLD) -> tuple[AlignmentHead, ...]:
    """The alignment heads of a model: its best head, if that reaches the threshold.

    Args:
        ranked: All heads, the best one first.
        threshold: The least score.
    """
    return tuple(one.head for one in ranked[:1] if one.score >= threshold)
