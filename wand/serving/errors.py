"""Errors in the shape of OpenAI: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

log = logging.getLogger("wand.serving")
# Longest part of a value or of a message that is sent back.
SHOWN = 300


class ApiError(HTTPException):
    """Raised for a request that is refused.

    Args:
        status: HTTP status.
        message: What is wrong, and the remedy.
        param: The field that is wrong, if it is one.
        code: A word for programs.
        headers: Headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.param, self.code = param, code

    @property
    def body(self) -> dict[str, Any]:
        """The body of the response."""
        return error_body(self.status_code, self.detail, self.param, self.code)


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    return {"error": {"message": printable(message), "type": kind, "param": param, "code": code}}


def printable(text: str) -> str:
    """The text, shortened, without characters that UTF-8 cannot encode."""
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
    return shown.encode("utf-8", "replace").decode()


def error_response(error: ApiError) -> JSONResponse:
    """The response of an error."""
    return JSONResponse(error.body, error.status_code, error.headers)


def add_error_handlers(app: FastAPI) -> None:
    """Give all errors of an app the shape of OpenAI's."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _wrong_fields)
    app.add_exception_handler(Exception, _own_fault)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not isinstance(error, ApiError):
        error = ApiError(error.status_code, str(error.detail), headers=error.headers)
    return error_response(error)


async def _wrong_fields(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [str(part) for part in first["loc"][1:] if isinstance(part, str)]
    if first["type"] == "json_invalid":
        return error_response(ApiError(400, "the body is not valid JSON", code="invalid_json"))
    param = place[0] if place else None
    where = f"{param}: " if param else "the body: "
    return error_response(ApiError(400, where + first["msg"], param, "invalid_value"))


async def _own_fault(request: Request, error: Exception) -> Response:
    return error_response(ApiError(500, "the server failed; its log says why"))
