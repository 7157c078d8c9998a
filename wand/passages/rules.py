"""Sizes of text windows, and when they move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from wand.attention import Windows
from wand.codecs import Codec
from wand.model.backbone import Backbone
from wand.model.text_tokens import PassageConditioner
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


def reason_against_passages(backbone: Backbone, window: Windows, codec: Codec | None = None) -> str | None:
    """Why a model cannot speak passages under a window; None if it can.

    Args:
        backbone: The model.
        window: Its window.
        codec: Its codec; None if only codes are spoken.
    """
    if window.largest is None:
        return "it has full attention"
    if not isinstance(backbone.conditioner, PassageConditioner):
        return f"its {type(backbone.conditioner).__name__} takes whole texts only"
    positions, needed = backbone.max_speech_tokens, _needed_positions(backbone, window.largest)
    if positions is not None and positions < needed:
        return (
            f"it has learned positions for {positions} speech columns, and passages need {needed} under its window of "
            f"{window.largest}"
        )
    if codec is not None and codec.needs_latents:
        return f"{type(codec).__name__} needs a second pass over the whole speech"
    if not backbone.alignment_heads:
        return "its alignment heads are not known (`wand align --ckpt_path RUN` looks for them)"
    return None


def check_passages(backbone: Backbone, window: Windows, codec: Codec | None = None) -> None:
    """Check that a model can speak passages under a window.

    Raises:
        ValueError: If it cannot.
    """
    if (reason := reason_against_passages(backbone, window, codec)) is not None:
        raise ValueError(f"this model cannot speak passages, because {reason}: split the text into sentences")


def largest_skip(backbone: Backbone) -> int:
    """Largest number of tokens that the place of a speech may jump ahead."""
    return max(2, round(SKIP * backbone.tokens_per_second))


def _needed_positions(backbone: Backbone, window: int) -> int:
    """Number of speech columns that are at once in a decode. Slow speech takes longer."""
    return 2 * (_reread(window) + round((LATE + REACH) * backbone.columns_per_second))


def _reread(window: int) -> int:
    return 2 * window


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
            ValueError: If it cannot speak passages.
        """
        check_passages(backbone, window)
        assert window.largest is not None
        rate, columns = backbone.tokens_per_second, backbone.columns_per_second
        reread = _reread(window.largest)
        return cls(
            first=round(AHEAD * rate),
            reach=round(REACH * rate),
            ahead=round(AHEAD * rate),
            # Fast speech says more in the columns that are re-read.
            behind=round(2 * (reread + LATE * columns) / columns * rate),
            near=round(NEAR * rate),
            skip=largest_skip(backbone),
            reread=reread,
            late=round(LATE * columns),
            patience=round(PATIENCE * columns),
            stuck=round(STUCK * columns),
            ending=round(ENDING * columns),
            positions=backbone.max_speech_tokens,
        )
