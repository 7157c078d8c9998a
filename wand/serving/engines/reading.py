"""A speech whose columns arrive one by one: its parts, and its end by wand's own rules."""

from __future__ import annotations

import torch
from torch import Tensor

from wand.decoding.generate import Chunk
from wand.decoding.speeches import CHECK_EVERY
from wand.decoding.stopping import StopReason, StopRules
from wand.model.columns import ColumnLayout


class SpeechReader:
    """Reads the columns of a speech with one codebook. Parts and ends are those of wand's own engine.

    Args:
        layout: How codes are arranged in columns.
        stops: Rows that end the speech.
        rules: When to end a speech that has no stop token.
        limit: Maximum number of columns.
        parts: Frames of the first part and of every other part; None gives the speech as a whole.
    """

    def __init__(
        self,
        layout: ColumnLayout,
        stops: frozenset[int],
        rules: StopRules,
        limit: int,
        parts: tuple[int, int] | None,
    ) -> None:
        self._layout, self._stops, self._rules, self._limit, self._parts = layout, stops, rules, limit, parts
        self._rows: list[int] = []
        self._given = 0  # frames that were returned

    def add(self, row: int) -> Chunk | None:
        """Add the row of the next column. Returns the part that is complete now, if any; the last one has a reason."""
        if row in self._stops:
            return self.end(StopReason.STOP_TOKEN)
        self._rows.append(row)
        spoken = len(self._rows)
        if spoken >= self._limit:
            return self.end(StopReason.LENGTH)
        if reason := self._broken_rule():
            return self.end(reason)
        if self._parts is None or self._layout.frames_of(spoken) < self._given + self._parts[1 if self._given else 0]:
            return None
        return Chunk(self._newest())

    def end(self, reason: StopReason) -> Chunk:
        """The last part."""
        return Chunk(self._newest(), reason)

    def _broken_rule(self) -> StopReason | None:
        reach = max(self._rules.loop_columns, self._rules.silence_columns)
        if not reach or len(self._rows) % CHECK_EVERY:
            return None
        return self._rules.broken(_columns(self._rows[-reach:]))

    def _newest(self) -> Tensor:
        codes = self._layout.from_columns(_columns(self._rows[self._given * self._layout.columns_per_frame :]))
        self._given += codes.shape[1]
        return codes


def _columns(rows: list[int]) -> Tensor:
    """``[T, 1]``."""
    return torch.tensor(rows, dtype=torch.long)[:, None]
