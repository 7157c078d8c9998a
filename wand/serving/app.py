"""The paths of a server. Its interface is OpenAI's, with a few more fields."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request, UploadFile, WebSocket
from starlette.responses import FileResponse, JSONResponse, Response

from wand.serving.bodies import SpeechBody
from wand.serving.errors import ApiError, add_error_handlers
from wand.serving.formats import FORMATS, make_encoder
from wand.serving.gate import UPLOADS, Gate
from wand.serving.metrics import Metrics
from wand.serving.responses import SSE, ClientLeft, SoundResponse, audio_body, event_body, first_bytes
from wand.serving.settings import ServerSettings
from wand.serving.speaker import Speaker, Usage
from wand.serving.text_stream import TextStream
from wand.serving.voices import VoiceExists
from wand.version import __version__

PAGE = Path(__file__).parent / "page.html"
# What the page may load: itself only.
PAGE_POLICY = "default-src 'self' data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
# Status of a client that has left before its response; nobody sees it but the log.
CLIENT_LEFT = 499


def make_app(speaker: Speaker, settings: ServerSettings, metrics: Metrics) -> Gate:
    """The app of a server.

    Args:
        speaker: Speaks the requests; closed with the app.
        settings: Settings of the server.
        metrics: Figures of the server.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await speaker.close()

    app = FastAPI(title="wand", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_error_handlers(app)
    _add_speech(app, speaker, settings)
    _add_lists(app, speaker, settings, metrics)
    if settings.allow_upload:
        _add_upload(app, speaker, settings)
    return Gate(app, settings, metrics)


def _add_speech(app: FastAPI, speaker: Speaker, settings: ServerSettings) -> None:
    @app.post("/v1/audio/speech", response_class=Response)
    async def speech(body: SpeechBody, request: Request) -> Response:
        """Speak a text."""
        options = body.options(settings, speaker.backbone.sampling)
        body.check(settings)
        reference = speaker.voice(body.voice_name)
        rate, usage = speaker.codec.sample_rate, Usage()
        try:
            encoder = make_encoder(body.response_format, rate)
        except ValueError as error:
            raise ApiError(400, f"response_format: {error}", "response_format", "unsupported") from error
        chunks = speaker.speak(body.input, reference, options, usage)
        is_sse = body.stream_format == "sse"
        sent = event_body(chunks, encoder, usage) if is_sse else audio_body(chunks, encoder)
        try:
            first = await first_bytes(sent, request)
        except ClientLeft:
            return Response(status_code=CLIENT_LEFT)
        return SoundResponse(first, sent, SSE if is_sse else FORMATS[body.response_format].media_type, rate)

    @app.websocket("/v1/audio/speech/stream")
    async def text_stream(socket: WebSocket) -> None:
        """Speak a text while it arrives."""
        await TextStream(socket, speaker).run()


def _add_lists(app: FastAPI, speaker: Speaker, settings: ServerSettings, metrics: Metrics) -> None:
    model = {"id": settings.model, "object": "model", "created": int(time.time()), "owned_by": "wand"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The models: one."""
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        """The model, if it has this name."""
        if name != settings.model:
            raise ApiError(404, f"this server has the model {settings.model!r} only", "model", "model_not_found")
        return model

    @app.get(UPLOADS)
    async def voices() -> dict[str, Any]:
        """The voices."""
        return {"object": "list", "data": [{"id": name, "object": "voice", "name": name} for name in speaker.voices]}

    @app.get("/health")
    async def health() -> Response:
        """Whether the server can speak."""
        alive = speaker.engine.alive
        content = {"status": "ok" if alive else "failed", "active": speaker.active}
        return JSONResponse(content, 200 if alive else 503)

    @app.get("/metrics")
    async def figures() -> Response:
        """Figures in the format of Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/")
    async def page() -> Response:
        """A page to try the server."""
        return FileResponse(PAGE, media_type="text/html", headers={"content-security-policy": PAGE_POLICY})


def _add_upload(app: FastAPI, speaker: Speaker, settings: ServerSettings) -> None:
    turn = asyncio.Lock()  # the sounds of uploads that wait stay in their files

    @app.post(UPLOADS, status_code=201)
    async def add_voice(
        file: UploadFile, name: Annotated[str, Form()], text: Annotated[str | None, Form()] = None
    ) -> dict[str, Any]:
        """Add a voice from a sound file."""
        most = settings.max_letters
        if text is not None and len(text) > most:
            raise ApiError(400, f"text: a transcript has at most {most} letters", "text", "text_too_long")
        try:
            async with turn:
                await speaker.add_voice(name, await file.read(), Path(file.filename or "").suffix, text)
        except VoiceExists as error:
            raise ApiError(409, str(error), "name", "voice_exists") from error
        except ValueError as error:
            raise ApiError(400, str(error), "file", "invalid_value") from error
        return {"id": name, "object": "voice", "name": name}
