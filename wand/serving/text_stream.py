"""Text that arrives while it is spoken, through a WebSocket.

The client sends JSON: first how to speak (``{"voice": "anna"}``), then text (``{"text": "..."}``) and its end
(``{"end": true}``). The server sends JSON about the speech, and its sound as binary messages (16 bit, little-endian).
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from wand.passages.passage import Passage
from wand.serving.bodies import Body, StreamBody, TextBody
from wand.serving.engines.base import PassageTexts
from wand.serving.errors import ApiError
from wand.serving.formats import Pcm
from wand.serving.speaker import Speaker, Usage
from wand.text.characters import EMPTY, is_empty

Message = TypeVar("Message", bound=Body)
# Codes of RFC 6455 with which a WebSocket is closed.
NORMAL, REFUSED, FAILED = 1000, 1008, 1011


class TextStream:
    """One speech of a client.

    Args:
        socket: The connection, not accepted yet.
        speaker: Speaks it.
    """

    def __init__(self, socket: WebSocket, speaker: Speaker) -> None:
        self._socket, self._speaker, self._settings = socket, speaker, speaker.settings
        self._letters, self._has_words = 0, False

    async def run(self) -> None:
        """Speak until the text has ended, or the client leaves."""
        await self._socket.accept()
        try:
            await self._speak()
        except ApiError as error:
            await self._close(FAILED if error.status_code >= 500 else REFUSED, {"type": "error", **error.body})
        except WebSocketDisconnect:
            return

    async def _speak(self) -> None:
        wishes = await self._receive(StreamBody)
        reference = self._speaker.voice(wishes.voice_name)
        options = wishes.options(self._settings, self._speaker.backbone.sampling)
        passage, texts = self._speaker.passage(reference)
        usage = Usage()

        async def say() -> None:
            rate, pcm = self._speaker.codec.sample_rate, Pcm()
            await self._socket.send_json({"type": "speech.begin", "sample_rate": rate})
            async with aclosing(self._speaker.speak(passage, reference, options, usage)) as chunks:
                async for chunk in chunks:
                    await self._socket.send_bytes(pcm.add(chunk.audio))

        tasks = [asyncio.create_task(say()), asyncio.create_task(self._listen(passage, texts))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in done:
            task.result()
        counts = {"input_tokens": passage.end, "output_tokens": usage.output_tokens}
        await self._close(NORMAL, {"type": "speech.done", "usage": counts})

    async def _listen(self, passage: Passage, texts: PassageTexts) -> None:
        """Add the text of the client to a passage, until the client leaves."""
        while not passage.closed:
            message = await self._receive(TextBody)
            self._letters += len(message.text)
            if self._letters > self._settings.max_letters:
                raise ApiError(
                    400, f"text: a speech has at most {self._settings.max_letters} letters", "text", "text_too_long"
                )
            self._has_words |= not is_empty(message.text)
            if message.end and not self._has_words:
                raise ApiError(400, f"text: {EMPTY}", "text", "empty_text")
            try:
                await texts.add_text(passage, message.text)
                if message.end:
                    await texts.end_text(passage)
            except ValueError as error:
                raise ApiError(400, f"text: {error}", "text", "invalid_value") from error
        while True:  # what comes after the end is not read
            await self._next()

    async def _receive(self, kind: type[Message]) -> Message:
        """The next message.

        Raises:
            ApiError: If it is not of its kind, or does not come.
            WebSocketDisconnect: If the client leaves.
        """
        try:
            async with asyncio.timeout(self._settings.idle_seconds):
                text = await self._next()
        except TimeoutError as error:
            raise ApiError(408, f"no message came for {self._settings.idle_seconds:g} s", code="idle") from error
        if text is None:
            raise ApiError(400, "a message is binary: send JSON as text", code="invalid_json")
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            param = next((str(part) for part in first["loc"]), None)
            raise ApiError(400, f"{param or 'the message'}: {first['msg']}", param, "invalid_value") from error

    async def _next(self) -> str | None:
        """The next message; None if it is binary.

        Raises:
            WebSocketDisconnect: If the client leaves.
        """
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        text: str | None = message.get("text")
        return text

    async def _close(self, code: int, last: dict[str, Any]) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # the client has left
            await self._socket.send_json(last)
            await self._socket.close(code)
