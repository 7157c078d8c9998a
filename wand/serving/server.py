"""Runs an app until a signal ends it: requests that are being answered are finished, new ones are refused."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterable
from types import FrameType

import uvicorn

from wand.serving.gate import Gate
from wand.serving.metrics import Metrics
from wand.serving.settings import ServerSettings

log = logging.getLogger("wand.serving")

# The longest time that requests have after a signal, in seconds.
GRACE = 60
# The server looks this often for its end, per second.
TICKS = 10
# A client that takes fewer bytes than this in `ServerSettings.send_seconds` is disconnected. It is a quarter of what
# uvicorn keeps for a client, and less than a minute of any sound.
FEWEST_BYTES = 1 << 14
# What the kernel keeps for a client. By default it may be megabytes, and a client that does not read is noticed late.
KERNEL_BYTES = 1 << 16


class UnreadWatch:
    """Disconnects clients that do not read. Their requests end like those of other clients that leave.

    Args:
        seconds: The longest time that a client may read nothing, while there is something to read.
        metrics: Counts them.
    """

    def __init__(self, seconds: float, metrics: Metrics) -> None:
        self._seconds, self._metrics = seconds, metrics
        # When the client of a connection has last read, and the most bytes that have waited for it since.
        self._last: dict[asyncio.Transport, tuple[float, int]] = {}

    def look(self, connections: Iterable[asyncio.Transport]) -> None:
        """Compare the bytes that wait in each connection with those of earlier looks."""
        now, known, self._last = time.monotonic(), self._last, {}
        for connection in connections:
            waiting = connection.get_write_buffer_size()
            since, most = known.get(connection, (now, waiting))
            if not waiting or waiting <= most - FEWEST_BYTES:
                since, most = now, waiting
            if now - since < self._seconds:
                self._last[connection] = since, max(most, waiting)
                continue
            host, port = connection.get_extra_info("peername")[:2]
            log.warning("%s port %s has read nothing for %.0f s and is disconnected", host, port, now - since)
            self._metrics.unread.inc()
            connection.abort()


class Server(uvicorn.Server):
    """A server that goes on listening while it finishes its requests, so that new ones get status 503.

    Args:
        app: The app.
        settings: Settings of the server.
        place: Where it listens; see `bound_socket`.
        metrics: Figures of the server.
    """

    def __init__(self, app: Gate, settings: ServerSettings, place: socket.socket, metrics: Metrics) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=settings.largest_body,
            timeout_graceful_shutdown=1,  # the requests have had their time
        )
        super().__init__(config)
        self._gate, self._place = app, place
        self._ticks_left = GRACE * TICKS
        self._unread = UnreadWatch(settings.send_seconds, metrics)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests. A second signal cuts off those that are being answered."""
        if self._gate.draining:
            self.should_exit = self.force_exit = True
        self._gate.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; asked ten times a second."""
        self._unread.look([connection.transport for connection in self.server_state.connections])
        if self._gate.draining:
            self._ticks_left -= 1
            if not self._gate.open or self._ticks_left <= 0:
                self.should_exit = True
        return await super().on_tick(counter)

    @property
    def url(self) -> str:
        """Where the server listens."""
        host, port = self._place.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup([self._place])
        log.info("listens on %s", self.url)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet.

    Args:
        host: The address.
        port: The port; 0 takes a free one.

    Raises:
        ValueError: If the address cannot be used.
    """
    place = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        place = socket.socket(family, kind)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)  # of its connections
        place.bind(address)
    except OSError as error:
        if place is not None:
            place.close()
        reason = f"--host {host} --port {port} cannot be used ({error.strerror}): choose another address or port"
        raise ValueError(reason) from error
    return place
