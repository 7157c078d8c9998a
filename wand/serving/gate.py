"""What happens before a request is read: its id, host, key, the size of its body, and the end of the server."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wand.serving.errors import ApiError, error_response, printable
from wand.serving.metrics import Metrics
from wand.serving.settings import LARGEST_UPLOAD, ServerSettings, host_name

log = logging.getLogger("wand.serving")

REQUEST_ID = "x-request-id"
# A request id of a client goes into the log, so it has plain letters only.
CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Paths that need no key: the page asks for it, and what watches a server has none.
OPEN = ("/", "/health")
# Paths that are asked for all the time, and are not in the log.
WATCHED = ("/health", "/metrics")
UPLOADS = "/v1/voices"
# How long the body of a refused request is received, in seconds: a client that still sends when the connection is
# closed may lose the response.
DISCARD_SECONDS = 5.0


class Gate:
    """ASGI middleware that lets requests in, and notes them in the log and in the figures.

    Args:
        app: What answers them.
        settings: Settings of the server.
        metrics: Figures of the server.

    Attributes:
        draining: Whether new requests are refused, because the server ends.
        open: Number of requests that are being answered.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self.draining = False
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        name = given if CLIENT_ID.fullmatch(given) else uuid.uuid4().hex
        begun, status = time.monotonic(), 0

        async def noted_send(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                status = message.get("status", 101)
                sent = MutableHeaders(scope=message)
                sent[REQUEST_ID] = name
                sent["x-content-type-options"] = "nosniff"
            await send(message)

        self.open += 1
        try:
            try:
                self._check(scope, headers)
            except ApiError as error:
                if scope["type"] == "http" and "expect" not in headers:  # such a client has not sent its body yet
                    await _discard(receive)
                await error_response(error)(scope, receive, noted_send)
                return
            await self._app(scope, self._limited(receive, scope), noted_send)
        finally:
            self.open -= 1
            # The path of a route, not that of the client, who could fill the memory with names.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.responses.labels(route, str(status)).inc()
            method, path = scope.get("method", "WEBSOCKET"), printable(scope["path"]).encode("unicode_escape").decode()
            level = logging.DEBUG if path in WATCHED else logging.INFO
            log.log(level, "%s %s %s %s %.3f s", name, method, path, status or "closed", time.monotonic() - begun)

    def _check(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"]
        if self.draining:
            raise ApiError(503, "the server ends: send the request to another one", headers={"Connection": "close"})
        self._check_host(headers)
        # A browser sends where a page comes from. Pages of other sites may not use a server that only listens here.
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise ApiError(403, f"a page of {origin} may not use this server", code="foreign_origin")
        if path not in OPEN and not self._has_key(headers.get("authorization", "")):
            raise ApiError(401, "send the key of this server as `Authorization: Bearer KEY`", code="invalid_api_key")
        if (length := headers.get("content-length", "0")).isdecimal() and int(length) > self._largest(path):
            raise self._too_large(path)

    def _check_host(self, headers: Headers) -> None:
        allowed, given = self._settings.allowed_hosts, headers.getlist("host")
        if allowed is None or (len(given) == 1 and host_name(given[0]) in allowed):
            return
        raise ApiError(
            403,
            f"the host {', '.join(given)[:80]!r} is not one of {', '.join(allowed)}: "
            f"start the server with --allowed_hosts if it has another name",
            code="foreign_host",
        )

    def _has_key(self, given: str) -> bool:
        if self._settings.key is None:
            return True
        scheme, _, key = given.partition(" ")
        key, own = key.strip(" \t"), self._settings.key.encode()
        # Headers are read as latin-1. Programs send a key in UTF-8, pages of browsers in latin-1.
        same = [hmac.compare_digest(sent, own) for sent in (key.encode("latin-1"), key.encode())]
        return any(same) and scheme.lower() == "bearer"

    def _largest(self, path: str) -> int:
        upload = path == UPLOADS and self._settings.allow_upload
        return LARGEST_UPLOAD if upload else self._settings.largest_body

    def _too_large(self, path: str) -> ApiError:
        message = f"the body has more than {self._largest(path)} bytes, the most that this server takes"
        return ApiError(413, message, code="body_too_large", headers={"Connection": "close"})

    def _limited(self, receive: Receive, scope: Scope) -> Receive:
        """Receives a body, and stops when it is too large: its length may be unknown or wrong."""
        if scope["type"] != "http":
            return receive
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._largest(scope["path"]):
                if message.get("more_body"):
                    await _discard(receive)
                raise self._too_large(scope["path"])
            return message

        return limited


async def _discard(receive: Receive) -> None:
    """Receive the rest of a body, for `DISCARD_SECONDS` at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while (await receive()).get("more_body"):
                pass
