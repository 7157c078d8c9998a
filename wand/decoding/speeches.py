"""The speeches that the rows of an engine are speaking, and their columns.

Shapes: B rows, K codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wand.decoding.stopping import StopReason, StopRules
from wand.passages.follower import Follower

# Columns of a row between two checks for loops and silence.
CHECK_EVERY = 16


class History:
    """A tensor ``[B, ...]`` for every step of the engine. Steps are counted from the first one; old ones are freed."""

    def __init__(self) -> None:
        self._steps: list[Tensor] = []
        self._dropped = 0

    def __len__(self) -> int:
        return self._dropped + len(self._steps)

    def append(self, step: Tensor) -> None:
        """Add the newest step."""
        self._steps.append(step)

    def of(self, row: int, begin: int, end: int) -> Tensor:
        """What a row has in the steps from `begin` to `end`, at least one: ``[end - begin, ...]``, on the CPU."""
        assert self._dropped <= begin < end
        return torch.stack([step[row] for step in self._steps[begin - self._dropped : end - self._dropped]]).cpu()

    def newest(self, steps: int) -> Tensor:
        """The newest steps of all rows: ``[B, steps, ...]``, on the CPU."""
        return torch.stack(self._steps[-steps:], dim=1).cpu()

    def keep(self, rows: list[int]) -> None:
        """Keep only the given rows."""
        self._steps = [step[rows] for step in self._steps]

    def forget(self, before: int, least: int) -> None:
        """Free the steps before one, if there are at least this many."""
        if before - self._dropped >= least:
            del self._steps[: before - self._dropped]
            self._dropped = before


@dataclass(slots=True)
class Speech:
    """The speech of a row.

    Its columns are counted from 0. Those from `base` on are in the history, the others in `kept`.

    Args:
        ticket: Ticket of the request.
        limit: Maximum number of columns.
        begin: The step of the column `base`.
        kept: The newest columns before `base`, ``[n, K]``.
        parts: Frames of the first part and of every other part of a stream.
        name: Name of the request.
        bound: The reason of a speech that ends at its limit.
        follower: Follows a passage; None if the text is in the prefix as a whole.
        given: Frames that were returned as parts.
        looked: Columns whose looks the follower has seen.
        parked: The state of a speech that waits for text, and is in no row.
        goes_back: Whether newest columns were dropped, so that the cache of the row must be exchanged.
    """

    ticket: int
    limit: int
    begin: int
    kept: Tensor
    parts: tuple[int, int] | None
    name: str
    bound: StopReason = StopReason.LENGTH
    follower: Follower | None = None
    base: int = 0
    given: int = 0
    looked: int = 0
    parked: list[Tensor] = field(default_factory=list)
    goes_back: bool = False

    def spoken(self, step: int) -> int:
        """Number of columns before a step."""
        return self.base + (0 if self.parked else step - self.begin)

    @property
    def wanted(self) -> int | None:
        """Number of frames at which the next part is due."""
        return None if self.parts is None else self.given + self.parts[1 if self.given else 0]

    def columns(self, history: History, row: int, begin: int, end: int) -> Tensor:
        """The columns from `begin` to `end`: ``[end - begin, K]``."""
        first = self.base - len(self.kept)
        assert first <= begin <= end
        known = self.kept[begin - first : max(end - first, 0)]
        if end <= max(begin, self.base):
            return known
        since = max(begin, self.base)
        return torch.cat([known, history.of(row, self.begin + since - self.base, self.begin + end - self.base)])

    def fold(self, history: History, row: int, begin: int) -> None:
        """Keep the columns from `begin` on, so that the history need not."""
        now = self.spoken(len(history))
        self.kept = self.columns(history, row, begin, now)
        self.base, self.begin = now, len(history)

    def go_back(self, column: int) -> None:
        """Drop the columns from one on. All others must be in `kept`."""
        self.kept = self.kept[: len(self.kept) + column - self.base]
        self.base = self.looked = column
        self.goes_back = True


def broken_rules(
    rules: StopRules, speeches: Sequence[Speech | None], history: History, frames: Sequence[int], looked: int
) -> dict[int, tuple[int, StopReason]]:
    """Rows that a stop rule ends before their stop token or limit does: row to (length, reason).

    A row is judged at every multiple of `CHECK_EVERY` of its own columns. If this function is called later than that,
    it still judges the columns that the row had then. A passage is judged by its follower instead.

    Args:
        rules: When to end a speech that has no stop token.
        speeches: The speech of every row.
        history: The columns of all rows.
        frames: Frames of every row that has stopped.
        looked: Steps of the history at the last call.
    """
    reach, now = max(rules.loop_columns, rules.silence_columns), len(history)
    due: dict[int, tuple[int, int]] = {}
    for row, speech in enumerate(speeches):
        if speech is None or speech.follower is not None:
            continue
        late = (now - speech.begin) % CHECK_EVERY
        length = now - speech.begin - late
        if late < now - looked and length <= frames[row] and length < speech.limit:
            due[row] = length, late
    if not (due and reach):
        return {}
    newest = history.newest(reach + CHECK_EVERY)
    checked = {}
    for row, (length, late) in due.items():
        until = newest.shape[1] - late
        checked[row] = length, rules.broken(newest[row, until - min(length, reach) : until])
    return {row: (length, reason) for row, (length, reason) in checked.items() if reason is not None}
