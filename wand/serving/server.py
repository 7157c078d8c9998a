"""Runs an app until a signal ends it: requests that are being answered are finished, new ones are refused."""

from __future__ import annotations

from types import FrameType

import uvicorn

from wand.serving.gate import Gate
from wand.serving.settings import ServerSettings

# The longest time that requests have after a signal, in seconds.
GRACE = 60
# The server looks this often for its end, per second.
TICKS = 10


class Server(uvicorn.Server):
    """A server that goes on listening while it finishes its requests, so that new ones get status 503.

    Args:
        app: The app.
        settings: Settings of the server.
        host: Address to listen on.
        port: Port; 0 takes a free one.
    """

    def __init__(self, app: Gate, settings: ServerSettings, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=settings.largest_body,
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)
        self._gate = app
        self._ticks_left = GRACE * TICKS

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new requests. A second signal cuts off those that are being answered."""
        if self._gate.draining:
            self.should_exit = self.force_exit = True
        self._gate.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; asked ten times a second."""
        if self._gate.draining:
            self._ticks_left -= 1
            if not self._gate.open or self._ticks_left <= 0:
                self.should_exit = True
        return await super().on_tick(counter)

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens, once it has started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return host, port
