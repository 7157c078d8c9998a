"""The part of vLLM's HTTP interface that a server needs: token ids in, token ids out, as they are spoken.

The fields are those of vLLM 0.32 with the plugin wand-vllm.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from wand.serving.engines.base import EngineAway, EngineFailed

# Longest times in seconds: until an engine takes a connection, and until it speaks the next ids.
CONNECT_SECONDS, READ_SECONDS = 5.0, 120.0
# The argument of a request that the plugin reads. It refuses a penalty of 0, vLLM without the plugin ignores it.
PENALTY = "speech_repetition_penalty"
# Status codes of an engine that takes no requests now.
TAKES_NONE = (429, 502, 503, 504)


Kind = TypeVar("Kind", bound=BaseModel)


class _Model(BaseModel):
    id: str
    root: str | None = None


class _Models(BaseModel):
    data: list[_Model]


class _Choice(BaseModel):
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Error(BaseModel):
    message: str
    code: object = None


class _Event(BaseModel):
    choices: list[_Choice] = []
    error: _Error | None = None


class VllmServer:
    """A server of vLLM.

    Args:
        url: Its address, such as ``http://127.0.0.1:8001``.
        key: The key that it asks for; None if it needs none.

    Raises:
        ValueError: If the address is none.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(f"--engine {url!r} is not an address: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"--engine {url!r} is not an address: give one such as http://127.0.0.1:8001")
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=None),
            # Each request has its own connection: the server closes those that are kept, also while one is used again.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def model(self, name: str, folder: PurePosixPath) -> str:
        """The name that a model has on the server.

        Args:
            name: Its name, if the server was started with one.
            folder: The end of the path of its folder, which is its name otherwise.

        Raises:
            ValueError: If it has no such model.
            EngineFailed: If it does not answer like vLLM.
        """
        async with self._asked("GET", "/v1/models") as answer:
            found = self._read(_Models, await answer.aread()).data
        for model in found:
            if model.id == name or PurePosixPath(model.root or "").parts[-len(folder.parts) :] == folder.parts:
                return model.id
        known = ", ".join(f"{model.id!r}" for model in found) or "none"
        raise ValueError(
            f"--engine: {self.url} has the model {known}, not {name!r}: start `vllm serve` with the folder {folder}, "
            f"or with --served-model-name {name}"
        )

    async def has_plugin(self, model: str, prompt: Sequence[int]) -> bool:
        """Whether the plugin wand-vllm runs, without which neither the window nor the ids of the speech are known."""
        wish = {"model": model, "prompt": list(prompt), "max_tokens": 1, "vllm_xargs": {PENALTY: 0}}
        try:
            async with self._asked("POST", "/v1/completions", wish):
                return False
        except ValueError as error:
            if PENALTY not in str(error):
                raise
            return True

    async def stream(self, wish: Mapping[str, Any]) -> AsyncGenerator[tuple[list[int], str | None]]:
        """Ask for a completion. The server drops the request when the iterator is closed.

        Args:
            wish: The body of the request, without what asks for a stream of ids.

        Yields:
            The next ids, and why the completion ended; None before its end.

        Raises:
            ValueError: If the server refuses the request.
            EngineFailed: If it cannot answer.
        """
        body = {**wish, "stream": True, "return_token_ids": True}
        async with self._asked("POST", "/v1/completions", body) as answer:
            async for line in answer.aiter_lines():
                kind, _, data = line.partition(": ")
                if kind != "data" or data == "[DONE]":  # a comment, or the last line
                    continue
                event = self._read(_Event, data)
                if event.error is not None:  # a request may be refused after the status was sent
                    status = event.error.code if isinstance(event.error.code, int) else 500
                    raise self._refusal(status, event.error.message)
                for choice in event.choices:
                    if choice.token_ids is None:
                        raise EngineFailed(f"the engine at {self.url} sends no token_ids: it needs vLLM 0.32")
                    yield choice.token_ids, choice.finish_reason

    @asynccontextmanager
    async def _asked(self, method: str, path: str, body: object = None) -> AsyncGenerator[httpx.Response]:
        """An answer with status 200, whose body may be read as a stream."""
        try:
            async with self._client.stream(method, path, json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise self._refusal(answer.status_code, self._message(await answer.aread()))
                yield answer
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise EngineAway(f"the engine at {self.url} cannot be reached ({reason})") from error

    def _message(self, content: bytes) -> str:
        try:
            error = self._read(_Event, content).error
        except EngineFailed:
            error = None
        return content.decode("utf-8", "replace")[:200] if error is None else error.message

    def _refusal(self, status: int, message: str) -> Exception:
        said = " ".join(message.split())
        if status == httpx.codes.BAD_REQUEST:
            return ValueError(said)
        kind = EngineAway if status in TAKES_NONE else EngineFailed
        return kind(f"the engine at {self.url} answers with status {status}: {said}")

    def _read(self, kind: type[Kind], content: str | bytes) -> Kind:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise EngineFailed(f"the engine at {self.url} does not answer like vLLM") from error
