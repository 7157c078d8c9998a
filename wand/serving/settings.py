"""Limits of a server, and what it allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from wand.checks import check_number, check_switch, check_whole_number

# A letter of a JSON text takes up to twelve bytes (\ud83d\ude00); the other fields of a request are short.
BYTES_PER_LETTER, OTHER_BYTES = 12, 1 << 14
# Largest upload of a voice, in bytes: a minute of 48 kHz sound in 24 bit.
LARGEST_UPLOAD = 10 << 20
# Names of this machine that no page of another machine can have.
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
# The header `host`: a name, or an address, which is in brackets for IPv6; then a port.
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(:[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server does, and how much of it.

    Args:
        rows: Number of requests that are spoken at the same time.
        queue: Number of further requests that wait; more are refused with status 429.
        max_letters: Longest text of a request.
        max_seconds: Longest speech of a request; it ends there. A part of a text that is split has 30 s at most.
        idle_seconds: A WebSocket whose client sends no text for this time is closed.
        send_seconds: A client that takes no data for this time is disconnected.
        allow_upload: Whether clients may add voices.
        voice_seconds: Longest sound of a voice that is uploaded. The codec takes memory for each second of it, and the
            speech of other requests waits meanwhile.
        key: What clients must send as bearer token; None if they need not.
        model: Name of the model.
        allowed_hosts: Names and addresses that requests may have in their header `host`; None allows all.

    Raises:
        ValueError: If a value is out of range.
    """

    rows: int = 8
    queue: int = 32
    max_letters: int = 4096
    max_seconds: float = 600.0
    idle_seconds: float = 60.0
    send_seconds: float = 60.0
    allow_upload: bool = False
    voice_seconds: float = 30.0
    key: str | None = None
    model: str = "wand"
    allowed_hosts: tuple[str, ...] | None = LOCAL_HOSTS

    def __post_init__(self) -> None:
        check_whole_number("rows", self.rows, least=1)
        check_whole_number("queue", self.queue, least=0)
        check_whole_number("max_letters", self.max_letters, least=1)
        check_number("max_seconds", self.max_seconds, "(0, 86400]")
        check_number("idle_seconds", self.idle_seconds, "(0, 86400]")
        check_number("send_seconds", self.send_seconds, "(0, 86400]")
        check_switch("allow_upload", self.allow_upload)
        check_number("voice_seconds", self.voice_seconds, "(0, 3600]")
        if self.key is not None:
            check_key(self.key, "server")
        for name in self.allowed_hosts or ():
            if host_name(name) != name:
                raise ValueError(f"--allowed_hosts {name!r} is no host: give names or addresses, such as {LOCAL_HOSTS}")

    @property
    def largest_body(self) -> int:
        """Largest body of a request, in bytes."""
        return BYTES_PER_LETTER * self.max_letters + OTHER_BYTES


def check_key(key: str, whose: str) -> None:
    """Check that a key can be sent in a header.

    Args:
        key: The key.
        whose: What it is the key of, for errors.

    Raises:
        ValueError: If it cannot.
    """
    if not key.strip():
        raise ValueError(f"the key of the {whose} is empty: set the environment variable to the key, or unset it")
    if key != key.strip() or not key.isprintable():
        raise ValueError(
            f"the key of the {whose} cannot be sent in a header: it begins or ends with a blank or a newline, or holds "
            f"a character that cannot be printed; set the environment variable without them"
        )


def host_name(header: str) -> str | None:
    """The name or the address in a header `host`, without its port; None if it has none."""
    found = HOST.fullmatch(header)
    return None if found is None else found[1].lower()


def is_local(address: str) -> bool:
    """Whether only this machine reaches an IP address."""
    return ip_address(address).is_loopback


def hosts_at(address: str, named: Sequence[str]) -> tuple[str, ...] | None:
    """The hosts that requests may name in their header `host`.

    A page of another site can let its own name resolve to the address of this server (DNS rebinding). The browser then
    takes the server for that site, and only the header `host` shows the difference.

    Args:
        address: IP address where the server listens.
        named: Hosts that the user has named, such as that of a proxy.

    Returns:
        The hosts; None for all, if other machines reach the server and no host was named.
    """
    named = [name.lower() for name in named]
    if not is_local(address):
        return tuple(named) or None
    own = f"[{address}]" if ":" in address else address
    return tuple(dict.fromkeys([*LOCAL_HOSTS, own, *named]))
