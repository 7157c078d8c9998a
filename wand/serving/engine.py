"""The engines of a server: requests go in from the event loop, codes come out as they are spoken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from wand.decoding.engine import Engine
from wand.decoding.generate import Chunk
from wand.decoding.requests import Done, Part, Request, RequestError
from wand.passages.passage import Passage

log = logging.getLogger("wand.serving")


class SpeechEngine(Protocol):
    """Speaks requests of many clients."""

    def speak(self, request: Request) -> AsyncGenerator[Chunk]:
        """Speak a request, and yield its codes in parts; the last one has the stop reason.

        The request is dropped when the iterator is closed, and its row is free.

        Raises:
            ValueError: If the request cannot be spoken.
            EngineFailed: If the engine has failed.
        """
        ...

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

    @property
    def alive(self) -> bool:
        """Whether the engine works."""
        ...

    def close(self) -> None:
        """End the engine."""
        ...


class EngineFailed(RuntimeError):
    """Raised for the requests that an engine spoke when it failed."""


class _Outlet:
    """Where the codes of a request go: from the engine's thread into the event loop of its client."""

    def __init__(self) -> None:
        self.ticket: int | None = None
        self.items: asyncio.Queue[Chunk | Exception] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def put(self, item: Chunk | Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self.items.put_nowait, item)


class EngineThread:
    """wand's own engine in a thread of its own, which alone touches it.

    Requests are batched continuously: one that arrives starts at the next column, if a row is free.

    Args:
        make: Makes an idle engine; called again after the engine has failed.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engine = make()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._outlets: dict[int, _Outlet] = {}
        self._closed = False
        self._thread = Thread(target=self._run, name="wand-engine", daemon=True)
        self._thread.start()

    # -- in the event loop ---------------------------------------------------------------------------------------

    async def speak(self, request: Request) -> AsyncGenerator[Chunk]:
        """Speak a request; see `SpeechEngine`."""
        outlet = _Outlet()
        self._inbox.put(partial(self._submit, request, outlet))
        ended = False
        try:
            while not ended:
                item = await outlet.items.get()
                ended = isinstance(item, Exception) or item.reason is not None
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            if not ended:
                self._inbox.put(partial(self._cancel, outlet))

    async def add_text(self, passage: Passage, text: str) -> None:
        """Add text to a passage; see `SpeechEngine`."""
        await self._between_steps(partial(passage.extend, text))

    async def end_text(self, passage: Passage) -> None:
        """Say that the text of a passage is complete; see `SpeechEngine`."""
        await self._between_steps(passage.close)

    async def _between_steps(self, action: Callable[[], None]) -> None:
        """Run an action in the engine's thread, and wait for it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if not done.done():  # else the client has left
                done.set_result(None) if error is None else done.set_exception(error)

        def act() -> None:
            error: Exception | None = None
            try:
                action()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, error)

        self._inbox.put(act)
        await done

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def idle(self) -> bool:
        """Whether no request is waiting or being spoken."""
        return not self._outlets and self._inbox.empty() and not self._engine.busy

    def close(self) -> None:
        """End the thread. Requests that are being spoken get no more codes."""
        self._inbox.put(self._stop)
        self._thread.join()

    # -- in the engine's thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            if self._inbox.empty() and self._engine.busy and not self._engine.waits:
                self._step()
            else:
                self._inbox.get()()

    def _step(self) -> None:
        try:
            events = self._engine.step()
        except RequestError as error:
            self._deliver(error.ticket, error)
        except Exception as error:
            self._start_again(error)
        else:
            for event in events:
                self._deliver(event.ticket, _chunk(event))

    def _start_again(self, error: Exception) -> None:
        """Go on with a new engine: the state of the old one is unknown."""
        log.error("the engine has failed and starts again", exc_info=error)
        for ticket in list(self._outlets):
            self._deliver(ticket, EngineFailed("the engine has failed; the log of the server says why"))
        self._engine = self._make()

    def _deliver(self, ticket: int, item: Chunk | Exception) -> None:
        outlet = self._outlets.get(ticket)
        if outlet is None:  # an error of a request that was cancelled
            return
        if isinstance(item, Exception) or item.reason is not None:
            self._forget(outlet)
        outlet.put(item)

    def _forget(self, outlet: _Outlet) -> None:
        assert outlet.ticket is not None
        del self._outlets[outlet.ticket]
        outlet.ticket = None

    def _submit(self, request: Request, outlet: _Outlet) -> None:
        try:
            outlet.ticket = self._engine.submit(request)
        except ValueError as error:
            outlet.put(error)
        else:
            self._outlets[outlet.ticket] = outlet

    def _cancel(self, outlet: _Outlet) -> None:
        if outlet.ticket is not None:
            self._engine.cancel(outlet.ticket)
            self._forget(outlet)

    def _stop(self) -> None:
        self._closed = True


def _chunk(event: Part | Done) -> Chunk:
    if isinstance(event, Part):
        return Chunk(event.codes)
    return Chunk(event.generation.codes, event.generation.reason, event.generation.words)
