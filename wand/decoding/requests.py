"""What an engine is asked for, and what it gives.

Shapes: K codebooks, F frames, T speech columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wand.checks import check_whole_number
from wand.decoding.stopping import StopReason
from wand.model.batch import Conditioning
from wand.passages.follower import Fault, SpokenWord
from wand.passages.passage import Passage


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A request for one speech.

    Args:
        conditioning: The conditioning of one utterance, from the adapter's conditioner, or a passage.
        seed: Random seed. The speech depends on this seed and not on other requests.
        max_columns: Maximum number of speech columns; that of the engine's rules by default. A passage has no limit by
            default: its speech ends with its text.
        parts: Frames of the first part and of every other part of a stream; None returns the speech as a whole.
        name: Names the request in messages, such as its text.

    Raises:
        ValueError: If `max_columns` is not positive.
    """

    conditioning: Conditioning | Passage
    seed: int = 0
    max_columns: int | None = None
    parts: tuple[int, int] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.max_columns is not None:
            check_whole_number("max_columns of a request", self.max_columns, least=1)


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """A finished speech. That of a stream holds only what came after its last part.

    Args:
        codes: ``[K, F]``, complete frames.
        columns: ``[T, K]``, the columns that were fed back to the model.
        reason: Why the speech ended.
        words: The words of a passage.
        faults: What went wrong in a passage and could not be repaired.
    """

    codes: Tensor
    columns: Tensor
    reason: StopReason
    words: tuple[SpokenWord, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The newest frames of a streamed speech.

    Args:
        ticket: Ticket of the request.
        codes: ``[K, n]``, complete frames.
    """

    ticket: int
    codes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """The end of a speech.

    Args:
        ticket: Ticket of the request.
        generation: The speech.
    """

    ticket: int
    generation: Generation


class RequestError(ValueError):
    """Raised for one request of an engine, which is dropped. Other requests go on.

    Args:
        ticket: Ticket of the request.
        message: What is wrong.
        cause: What is wrong with its text; None if it is not the text.
    """

    def __init__(self, ticket: int, message: str, cause: Exception | None = None) -> None:
        super().__init__(message)
        self.ticket = ticket
        self.__cause__ = cause
