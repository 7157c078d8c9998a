"""What a server needs of an engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from wand.decoding.generate import Chunk
from wand.decoding.requests import Request
from wand.model.sampling import Sampling
from wand.passages.passage import Passage


class SpeechEngine(Protocol):
    """Speaks requests of many clients. Its methods are called in the event loop of the server."""

    def speak(self, request: Request, sampling: Sampling | None = None) -> AsyncGenerator[Chunk]:
        """Speak a request, and yield its codes in parts; the last one has the stop reason.

        The request is dropped when the iterator is closed, and its row is free.

        Args:
            request: The request.
            sampling: Sampling settings; those of the model by default.

        Raises:
            ValueError: If the request cannot be spoken.
            EngineFailed: If the engine has failed.
        """
        ...

    @property
    def passages(self) -> PassageTexts | None:
        """Takes the text of passages; None if the engine speaks none."""
        ...

    @property
    def open(self) -> int:
        """Number of requests that are waiting or being spoken."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the engine takes requests."""
        ...

    async def close(self) -> None:
        """End the engine."""
        ...


class PassageTexts(Protocol):
    """Takes the text of passages while they are spoken."""

    async def add_text(self, passage: Passage, text: str) -> None:
        """Add text to a passage that may be spoken already.

        Raises:
            ValueError: If the text cannot be read.
        """
        ...

    async def end_text(self, passage: Passage) -> None:
        """Say that the text of a passage is complete.

        Raises:
            ValueError: If the text cannot be read.
        """
        ...


class EngineFailed(RuntimeError):
    """Raised for the requests that an engine spoke when it failed."""


class EngineAway(EngineFailed):
    """Raised for requests while an engine cannot be reached, or takes none."""
