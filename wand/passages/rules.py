"""Sizes of text windows, and when they move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from wand.attention import Windows
from wand.model.backbone import Backbone
from wand.passages.passage import LONGEST_WORD, Passage

# Columns of a speech between two looks at its place. Each is looked at in its own time, so that it does not depend on
# others.
FOLLOW_EVERY = 4
# In seconds of speech. A window of text begins before what the re-read columns say and reaches this far beyond the
# place of the speech; it moves when less is left.
REACH = 4.2
AHEAD = 2.1
# The speech may jump ahead by this much; more is text that was left out.
SKIP = 0.4
# The stop token may come when only this much is left.
NEAR = 0.3
# What lies between the place of the speech and the columns that are re-read may be this much too long.
LATE = 0.1
# The heads must look elsewhere for about this time before the speech has jumped.
PATIENCE = 0.5
# After this time without progress the speech is stuck. At the end of the text it ends.
STUCK = 3.0
ENDING = 1.5


@dataclass(frozen=True, slots=True)
class PassageRules:
    """Sizes of text windows, in tokens, and of their speech, in columns.

    Args:
        first: Least number of tokens in the first window; the speech begins when they have arrived.
        reach: Number of tokens that a window has after the place of the speech, when it moves.
        ahead: The window moves when fewer tokens than this are left.
        behind: Largest number of tokens that a window has before the place of the speech, besides a part of a word.
        near: The stop token may come when at most this many tokens are left of the text.
        skip: Largest number of tokens that the place of the speech may jump ahead.
        reread: Number of columns that are computed again when the window moves.
        late: Number of columns by which a token may be spoken earlier than it was noticed.
        patience: Number of newest looks from which a jump is told.
        stuck: The speech is stuck after this many columns without progress.
        ending: Number of columns after which a speech ends that has reached the end of its text.
        positions: Number of columns that may be spoken from the beginning of a window on; None is no limit.
    """

    first: int
    reach: int
    ahead: int
    behind: int
    near: int
    skip: int
    reread: int
    late: int
    patience: int
    stuck: int
    ending: int
    positions: int | None = None

    @property
    def size(self) -> int:
        """Largest number of tokens in a window."""
        return self.behind + self.reach + LONGEST_WORD

    def prefix_length(self, passage: Passage) -> int:
        """The largest number of prefix columns of a passage."""
        return passage.columns_without_text + self.size

    @classmethod
    def of(cls, backbone: Backbone, window: Windows) -> Self:
        """Rules for a model under a window.

        Raises:
            ValueError: If the window is full attention, or too large for the learned positions of the model.
        """
        if window.largest is None:
            raise ValueError("passages need a window: under full attention, split the text into sentences")
        rate, columns = backbone.tokens_per_second, backbone.columns_per_second
        reread = 2 * window.largest
        positions = backbone.max_speech_tokens
        # Slow speech takes longer.
        needed = 2 * (reread + round((LATE + REACH) * columns))
        if positions is not None and positions < needed:
            raise ValueError(
                f"passages need {needed} speech columns at once under window {window.largest}, this model has learned "
                f"positions for {positions}: give a smaller window, or split the text into sentences"
            )
        return cls(
            first=round(AHEAD * rate),
            reach=round(REACH * rate),
            ahead=round(AHEAD * rate),
            # Fast speech says more in the columns that are re-read.
            behind=round(2 * (reread + LATE * columns) / columns * rate),
            near=round(NEAR * rate),
            skip=max(2, round(SKIP * rate)),
            reread=reread,
            late=round(LATE * columns),
            patience=round(PATIENCE * columns),
            stuck=round(STUCK * columns),
            ending=round(ENDING * columns),
            positions=positions,
        )
