"""Rules for when a decode ends. Every row ends with a reason that the user sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from wand.checks import check_whole_number


class StopReason(StrEnum):
    """Why a row stopped speaking."""

    STOP_TOKEN = "stop token"
    LENGTH = "length bound"
    LOOP = "loop"
    SILENCE = "silence"
    TEXT_END = "end of text"


@dataclass(frozen=True, slots=True)
class StopRules:
    """Rules that end a speech without a stop token.

    Args:
        max_columns: Maximum number of speech columns.
        loop_columns: Stop when this many newest columns repeat with a period of at most half of them; 0 means never.
        silence_columns: Stop after this many silent columns in a row; 0 means never.
        silent_tokens: Tokens of the first codebook that stand for silence.
        first_tokens: Number of tokens of the first codebook. Columns with larger ones, which hold the other slots of a
            frame (`wand.model.columns.FlattenedLayout`), may be anything in silence. None: every column has it.

    Raises:
        ValueError: If `max_columns` is not positive.
    """

    max_columns: int
    loop_columns: int = 0
    silence_columns: int = 0
    silent_tokens: frozenset[int] = frozenset()
    first_tokens: int | None = None

    def __post_init__(self) -> None:
        check_whole_number("max_columns", self.max_columns, least=1)

    def check(self, columns: Tensor) -> StopReason | None:
        """The reason to end a row after columns ``[T, K]`` without a stop token; None if it should go on."""
        if reason := self.broken(columns):
            return reason
        return StopReason.LENGTH if columns.shape[0] >= self.max_columns else None

    def broken(self, columns: Tensor) -> StopReason | None:
        """The reason to end a row after columns ``[T, K]`` of silence or a loop, whatever its maximum length is."""
        spoken = columns.shape[0]
        if 0 < self.silence_columns <= spoken and self._is_silent(columns[-self.silence_columns :]):
            return StopReason.SILENCE
        if 0 < self.loop_columns <= spoken and repeats(columns[-self.loop_columns :]):
            return StopReason.LOOP
        return None

    def _is_silent(self, columns: Tensor) -> bool:
        tokens = columns[:, 0].tolist()
        if self.first_tokens is not None:
            tokens = [token for token in tokens if token < self.first_tokens]
        return bool(tokens) and self.silent_tokens.issuperset(tokens)


def repeats(columns: Tensor) -> bool:
    """Whether columns ``[T, K]`` repeat one pattern with a period of at most T / 2."""
    length = columns.shape[0]
    return any(torch.equal(columns[period:], columns[:-period]) for period in range(1, length // 2 + 1))
