"""Limits of a server, and what it allows."""

from __future__ import annotations

from dataclasses import dataclass

from wand.checks import check_number, check_switch, check_whole_number

# A letter of a JSON text takes up to twelve bytes (\ud83d\ude00); the other fields of a request are short.
BYTES_PER_LETTER, OTHER_BYTES = 12, 1 << 14
# Largest upload of a voice, in bytes: a minute of 48 kHz sound in 24 bit.
LARGEST_UPLOAD = 10 << 20


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server does, and how much of it.

    Args:
        rows: Number of requests that are spoken at the same time.
        queue: Number of further requests that wait; more are refused with status 429.
        max_letters: Longest text of a request.
        max_seconds: Longest speech of a request; it ends there.
        idle_seconds: A WebSocket whose client sends no text for this time is closed.
        allow_upload: Whether clients may add voices.
        key: What clients must send as bearer token; None if they need not.
        model: Name of the model.

    Raises:
        ValueError: If a value is out of range.
    """

    rows: int = 8
    queue: int = 32
    max_letters: int = 4096
    max_seconds: float = 600.0
    idle_seconds: float = 60.0
    allow_upload: bool = False
    key: str | None = None
    model: str = "wand"

    def __post_init__(self) -> None:
        check_whole_number("rows", self.rows, least=1)
        check_whole_number("queue", self.queue, least=0)
        check_whole_number("max_letters", self.max_letters, least=1)
        check_number("max_seconds", self.max_seconds, "(0, 86400]")
        check_number("idle_seconds", self.idle_seconds, "(0, 86400]")
        check_switch("allow_upload", self.allow_upload)
        if self.key is not None and not self.key.strip():
            raise ValueError("the key of the server is empty: set the environment variable to the key, or unset it")

    @property
    def largest_body(self) -> int:
        """Largest body of a request, in bytes."""
        return BYTES_PER_LETTER * self.max_letters + OTHER_BYTES
