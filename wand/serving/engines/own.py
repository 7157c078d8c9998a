"""wand's own engine in a thread of a server: requests go in from the event loop, codes come out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread

from wand.decoding.engine import Engine
from wand.decoding.generate import Chunk
from wand.decoding.requests import Done, Part, Request, RequestError
from wand.model.sampling import Sampling
from wand.passages.passage import Passage
from wand.serving.engines.base import EngineFailed, PassageTexts

log = logging.getLogger("wand.serving")
# Ways of sampling at the same time; each has its own rows.
WAYS = 4


class _Outlet:
    """Where the codes of a request go: from the engine's thread into the event loop of its client."""

    def __init__(self) -> None:
        self.leave: Callable[[], None] | None = None  # drops the request, as long as it is spoken
        self.items: asyncio.Queue[Chunk | Exception] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def put(self, item: Chunk | Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self.items.put_nowait, item)


class _Share:
    """An engine for one way of sampling, and where the codes of its requests go."""

    def __init__(self, sampling: Sampling | None, engine: Engine) -> None:
        self.sampling, self.engine = sampling, engine
        self.outlets: dict[int, _Outlet] = {}

    @property
    def can_step(self) -> bool:
        return self.engine.busy and not self.engine.waits

    def submit(self, request: Request, outlet: _Outlet) -> None:
        ticket = self.engine.submit(request)
        self.outlets[ticket] = outlet

        def leave() -> None:
            self.engine.cancel(ticket)
            del self.outlets[ticket]

        outlet.leave = leave

    def step(self) -> None:
        try:
            events = self.engine.step()
        except RequestError as error:
            self._deliver(error.ticket, error)
        else:
            for event in events:
                self._deliver(event.ticket, _chunk(event))

    def fail(self) -> None:
        for ticket in list(self.outlets):
            self._deliver(ticket, EngineFailed("the engine has failed"))

    def _deliver(self, ticket: int, item: Chunk | Exception) -> None:
        outlet = self.outlets.get(ticket)
        if outlet is None:  # an error of a request that was dropped
            return
        if isinstance(item, Exception) or item.reason is not None:
            del self.outlets[ticket]
            outlet.leave = None
        outlet.put(item)


class EngineThread:
    """wand's own engine in a thread of its own, which alone touches it.

    Requests are batched continuously: one that arrives starts at the next column, if a row is free. An engine samples
    in one way. Requests that sample in another way than the model get a further engine, as long as there are any.

    Args:
        make: Makes an idle engine for sampling settings; None are those of the model.
    """

    def __init__(self, make: Callable[[Sampling | None], Engine]) -> None:
        self._make = make
        self._shares = [_Share(None, make(None))]
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._run, name="wand-engine", daemon=True)
        self._thread.start()

    # -- in the event loop ---------------------------------------------------------------------------------------

    async def speak(self, request: Request, sampling: Sampling | None = None) -> AsyncGenerator[Chunk]:
        """Speak a request; see `SpeechEngine`."""
        outlet = _Outlet()
        self._inbox.put(partial(self._submit, request, sampling, outlet))
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
                self._inbox.put(partial(self._leave, outlet))

    async def add_text(self, passage: Passage, text: str) -> None:
        """Add text to a passage; see `PassageTexts`."""
        await self._between_steps(partial(passage.extend, text))

    async def end_text(self, passage: Passage) -> None:
        """Say that the text of a passage is complete; see `PassageTexts`."""
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
    def passages(self) -> PassageTexts:
        """The thread itself."""
        return self

    @property
    def open(self) -> int:
        """Number of requests that are waiting or being spoken."""
        return sum(len(share.outlets) for share in self._shares)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def idle(self) -> bool:
        """Whether no request is waiting or being spoken."""
        return self._inbox.empty() and not any(share.outlets or share.engine.busy for share in self._shares)

    async def close(self) -> None:
        """End the thread. Requests that are being spoken get no more codes."""
        self._inbox.put(self._stop)
        self._thread.join()

    # -- in the engine's thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            ready = [share for share in self._shares if share.can_step]
            if not ready or not self._inbox.empty():
                self._inbox.get()()
                continue
            for share in ready:
                try:
                    share.step()
                except Exception as error:  # the state of the engine is unknown
                    log.error("the engine has failed and starts again", exc_info=error)
                    share.fail()
                    share.engine = self._make(share.sampling)
            self._drop_idle()

    def _drop_idle(self) -> None:
        """Drop the further engines that have nothing to speak."""
        self._shares = [share for share in self._shares if share.sampling is None or share.engine.busy]

    def _submit(self, request: Request, sampling: Sampling | None, outlet: _Outlet) -> None:
        try:
            self._share_of(sampling).submit(request, outlet)
        except Exception as error:  # of any kind: it is the client's to know
            outlet.put(error)

    def _share_of(self, sampling: Sampling | None) -> _Share:
        self._drop_idle()
        for share in self._shares:
            if share.sampling == sampling:
                return share
        if len(self._shares) == WAYS:
            raise ValueError(f"requests sample in {WAYS} ways already: leave out sampling, or try again later")
        self._shares.append(_Share(sampling, self._make(sampling)))
        return self._shares[-1]

    def _leave(self, outlet: _Outlet) -> None:
        if outlet.leave is not None:
            outlet.leave()
            outlet.leave = None

    def _stop(self) -> None:
        self._closed = True


def _chunk(event: Part | Done) -> Chunk:
    if isinstance(event, Part):
        return Chunk(event.codes)
    return Chunk(event.generation.codes, event.generation.reason, event.generation.words)
