"""Responses with sound, sent while it is spoken."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from wand.serving.errors import ApiError
from wand.serving.formats import Encoder
from wand.serving.speaker import Usage
from wand.speech.streaming import SoundChunk

log = logging.getLogger("wand.serving")

SSE = "text/event-stream"


class ClientLeft(Exception):
    """Raised when a client has left before its response."""


class SoundResponse(StreamingResponse):
    """A response whose body is made of the sound of a request. The request ends with the response.

    Args:
        first: The first bytes of the body; see `first_bytes`.
        body: The others.
        media_type: Type of the body.
        rate: Sample rate of the sound, in Hz.
    """

    def __init__(self, first: bytes, body: AsyncGenerator[bytes], media_type: str, rate: int) -> None:
        headers = {"x-sample-rate": str(rate), "cache-control": "no-store"}
        super().__init__(_continued(first, body), headers=headers, media_type=media_type)
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. After an error it stays incomplete, so that the client notices."""
        try:
            await super().__call__(scope, receive, send)
        except ApiError as error:
            log.error("a response was cut off: %s", error.detail)
        finally:
            await self._body.aclose()


async def first_bytes(body: AsyncGenerator[bytes], request: Request) -> bytes:
    """The first bytes of a body. An error until then has its own status.

    Args:
        body: The body. It is closed if there are no first bytes.
        request: Its request, whose own body was read.

    Raises:
        ClientLeft: If the client has left.
        ApiError: If the request cannot be answered.
    """
    first = asyncio.ensure_future(anext(body, b""))
    left = asyncio.ensure_future(_leaves(request))
    try:
        await asyncio.wait((first, left), return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            raise ClientLeft
        return first.result()
    except BaseException:
        first.cancel()
        await asyncio.wait((first,))
        await body.aclose()
        raise
    finally:
        left.cancel()


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _continued(first: bytes, body: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for more in body:
        yield more


async def audio_body(chunks: AsyncGenerator[SoundChunk], encoder: Encoder) -> AsyncGenerator[bytes]:
    """The sound in its format."""
    async with aclosing(chunks):
        async for chunk in chunks:
            if data := encoder.add(chunk.audio):
                yield data
        if data := encoder.finish():
            yield data


async def event_body(chunks: AsyncGenerator[SoundChunk], encoder: Encoder, usage: Usage) -> AsyncGenerator[bytes]:
    """The sound as server-sent events: ``speech.audio.delta``, then ``speech.audio.done`` or ``error``."""
    begun = False
    try:
        async with aclosing(audio_body(chunks, encoder)) as body:
            async for data in body:
                begun = True
                yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
    except ApiError as error:
        if not begun:
            raise
        yield _event({"type": "error", **error.body})
        return
    used, made = usage.input_tokens, usage.output_tokens
    counts = {"input_tokens": used, "output_tokens": made, "total_tokens": used + made}
    yield _event({"type": "speech.audio.done", "usage": counts})


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"
