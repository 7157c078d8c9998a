"""Follows the place of a speech in its text, and says when the window of text moves.

The place comes from attention heads that look at the token that is spoken next. They may look elsewhere for some
columns, so the place is the median of the newest looks, moves forward only, and ignores what is out of reach. If looks
stay out of reach, the speech has left out text or repeats it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from wand.passages.passage import Passage
from wand.passages.rules import FOLLOW_EVERY, PassageRules
from wand.text.characters import EMPTY

# Looks of which the place is the median, and the columns by which it is late.
LOOKS = 5
LAG = LOOKS // 2
# The share of the newest looks (`PassageRules.patience`) that must be elsewhere before the speech has jumped.
ELSEWHERE = 0.7


class Trouble(StrEnum):
    """What went wrong in a speech."""

    SKIP = "text was left out"
    LOOP = "text was repeated"
    STUCK = "the speech made no progress"


@dataclass(frozen=True, slots=True)
class TextWindow:
    """The tokens of a passage that are in the prefix: from `begin` to `end`."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong in a speech.

    Args:
        trouble: What it was.
        token: The token that was spoken before it.
        column: The column of that token.
    """

    trouble: Trouble
    token: int
    column: int


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word of a passage, and when it was spoken.

    Args:
        text: The word as it is written.
        begin: First speech column.
        end: The column after its last one.
    """

    text: str
    begin: int
    end: int


class Follower:
    """Follows one speech through its passage.

    Args:
        passage: The text.
        rules: Sizes of windows, and when they move.

    Attributes:
        window: The text in the prefix; None before the speech begins.
        place: The token that is spoken.
        words: The words that were spoken, once the speech has ended.
        faults: What went wrong and could not be repaired.
    """

    def __init__(self, passage: Passage, rules: PassageRules) -> None:
        self.passage = passage
        self.rules = rules
        self.window: TextWindow | None = None
        self.place = 0
        self.words: list[SpokenWord] = []
        self.faults: list[Fault] = []
        self._begins: list[tuple[str, int]] = []  # the words up to the beginning of the window, and their columns
        self._ahead = rules.ahead
        self._looks: deque[int] = deque(maxlen=rules.patience)
        # The column at which each token was reached, from the token `_known` on.
        self._reached: list[int] = [0]
        self._known = 0
        self._progress = 0  # the column of the newest progress
        self._repaired = -1  # the place from which the speech was last spoken again

    # -- looks ---------------------------------------------------------------------------------------------------

    def see(self, column: int, token: int) -> None:
        """Note the token that the heads look at for a column."""
        self._looks.append(token)
        newest = list(self._looks)[-LOOKS:]
        reachable = [look if abs(look - self.place) <= self.rules.skip else self.place for look in newest]
        middle = sorted(reachable)[len(newest) // 2]
        if middle > self.place:
            self._go_to(middle, column)

    def _go_to(self, token: int, column: int) -> None:
        self._reached += [max(column - LAG, self._reached[-1])] * (token - self.place)
        self.place, self._progress = token, column

    def fault(self, column: int) -> Fault | None:
        """What is going wrong at a column."""
        if len(self._looks) == self._looks.maxlen:
            least = ELSEWHERE * len(self._looks)
            if sum(look > self.place + self.rules.skip for look in self._looks) >= least:
                return Fault(Trouble.SKIP, self.place, self._progress)
            if sum(look < self.place - 2 * self.rules.skip for look in self._looks) >= least:
                return Fault(Trouble.LOOP, self.place, self._progress)
        positions = self.rules.positions
        spent = positions is not None and column - self._reached[0] > positions - FOLLOW_EVERY
        if spent or (column - self._progress >= self.rules.stuck and not self.may_stop):
            return Fault(Trouble.STUCK, self.place, self._progress)
        return None

    def can_repair(self, fault: Fault) -> bool:
        """Whether this text was not yet spoken again."""
        return fault.token > self._repaired

    def go_back(self, fault: Fault, column: int) -> None:
        """Note that the text after a fault is spoken again, from a column on."""
        self._repaired = fault.token + self.rules.reach
        self._looks.clear()
        self._progress = column

    def accept(self, fault: Fault, column: int) -> None:
        """Note a fault that could not be repaired. The speech goes on from where it is."""
        if fault.trouble == Trouble.SKIP:
            newest = list(self._looks)[-LOOKS:]
            self._go_to(max(self.place, sorted(newest)[len(newest) // 2]), column)
        self._looks.clear()
        # A loop at the same token is the same loop. It makes no progress, so it will be stuck if it does not end.
        if [(fault.trouble, fault.token)] != [(last.trouble, last.token) for last in self.faults[-1:]]:
            self.faults.append(fault)
            self._progress = column

    # -- windows -------------------------------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether the window must move now."""
        if self.window is None or self.passage.is_last(self.window.end):
            return self.window is None
        return self.window.end - self.place <= self._ahead

    def next_window(self, column: int) -> TextWindow | None:
        """The window to move to; None if its text has not arrived.

        Args:
            column: Number of columns that were spoken.

        Raises:
            ValueError: If the whole text is empty, or a piece of it cannot be read; see `Passage.extend`.
        """
        rules = self.rules
        if self.window is None:
            end = self.passage.word_from(max(rules.first, 1))
            if end == 0:
                raise ValueError(EMPTY)
            return None if end is None else TextWindow(0, end)
        # Of fast speech, not all that the re-read columns say is in the window, so that enough is ahead.
        begin = max(self._begin(column), self.passage.word_before(self.place - rules.behind))
        end = self.passage.word_from(min(self.place + rules.reach, begin + rules.behind + rules.reach))
        return None if end is None else TextWindow(begin, end)

    def _begin(self, column: int) -> int:
        """A word that began to be spoken before the columns that are re-read."""
        assert self.window is not None
        first = column - self.rules.reread
        spoken = self._known
        for token in range(self._known, self.place + 1):
            if self._reached[token - self._known] > first - self.rules.late:
                break
            spoken = token
        return max(self.passage.word_before(spoken), self.window.begin)

    def move(self, window: TextWindow) -> None:
        """Note that a window is in the prefix now."""
        if self.window is not None:
            self._note_words(window.begin)
        self.window = window
        self._ahead = min(self.rules.ahead, (window.end - self.place) // 2)
        self.passage.forget(window.begin)
        del self._reached[: window.begin - self._known]
        self._known = window.begin

    def begun(self, window: TextWindow) -> int:
        """The column at which the first token of a window was spoken."""
        return self._reached[window.begin - self._known]

    # -- ends ----------------------------------------------------------------------------------------------------

    @property
    def may_stop(self) -> bool:
        """Whether the speech has nearly reached the end of its text."""
        assert self.window is not None
        return self.passage.is_last(self.window.end) and self.window.end - self.place <= self.rules.near + 1

    def must_stop(self, column: int) -> bool:
        """Whether the speech goes on for too long after the end of its text."""
        return self.may_stop and column - self._progress >= self.rules.ending

    def finish(self, column: int) -> None:
        """Note the end of the speech and the words that were spoken.

        Args:
            column: The column after its last complete frame. Columns that only flush delayed codebooks have no sound.
        """
        assert self.window is not None
        if self.may_stop:  # the last tokens are too short to be noticed
            self._go_to(self.window.end - 1, column)
        self._note_words(self.place + 1)
        begins = [min(begin, column) for _, begin in self._begins] + [column]
        self.words = [SpokenWord(text, *times) for (text, _), times in zip(self._begins, pairwise(begins), strict=True)]

    def _note_words(self, end: int) -> None:
        """Note when the words before a token, which were reached, begin."""
        assert self.window is not None
        own = self.passage.words(self.window.begin, end)
        self._begins += [(text, self._reached[onset - self._known]) for text, onset in own]
