"""A server that answers like `vllm serve` with the plugin wand-vllm, as far as wand asks it. wand's own engine decodes.

Fields and order are those of vLLM 0.32 (``entrypoints/openai/completion``).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tests.serving.conftest import PATIENCE, until
from wand.decoding.engine import Engine
from wand.decoding.requests import Request as SpeechRequest
from wand.decoding.stopping import StopReason, StopRules
from wand.model.sampling import Sampling
from wand.serving.engines.own import EngineThread
from wand.serving.server import bound_socket
from wand.speech.synthesizer import Synthesizer

PENALTY = "speech_repetition_penalty"
REASONS = {StopReason.STOP_TOKEN: "stop", StopReason.LENGTH: "length"}


@dataclass
class StandIn:
    """A server of one model.

    Args:
        model: The model.
        plugin: Whether the plugin runs.
        token_ids: Whether streams have ids.
        shift: What is added to the ids of the speech, to be wrong.
        root: The folder that the server was started with.

    Attributes:
        asked: The bodies of the completions that were asked for.
        engine: Speaks them.
        url: Its address, when it listens.
    """

    model: Synthesizer
    plugin: bool = True
    token_ids: bool = True
    shift: int = 0
    root: str = "/exports/tiny"
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        decoder = self.model.decoder
        rules = StopRules(max_columns=10_000)  # vLLM has no others
        self.engine = EngineThread(
            lambda sampling: Engine(decoder, rows=4, prefix_length=512, rules=rules, sampling=sampling)
        )

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            card = {"id": self.root, "object": "model", "owned_by": "vllm", "root": self.root, "max_model_len": 2048}
            return {"object": "list", "data": [card]}

        @app.post("/v1/completions")
        async def completions(request: Request) -> Response:
            body = await request.json()
            self.asked.append(body)
            if body["model"] != self.root:
                return refused(404, f"The model `{body['model']}` does not exist.")
            penalty = body.get("vllm_xargs", {}).get(PENALTY, 1.0)
            if self.plugin and not penalty > 0:
                return refused(400, f"{PENALTY} {penalty!r} is no positive number: 1 is no penalty")
            if not body.get("stream"):
                return JSONResponse({"object": "text_completion", "choices": [{"index": 0, "finish_reason": "length"}]})
            return StreamingResponse(self._events(body), media_type="text/event-stream")

        return app

    async def _events(self, body: dict[str, Any]) -> AsyncGenerator[str]:
        layout, row_ids = self.model.backbone.layout, self.model.backbone.causal_lm().row_ids + self.shift
        sampling = Sampling(
            body.get("temperature", 1.0),
            body.get("top_k", 0),
            body.get("top_p", 1.0),
            body.get("vllm_xargs", {}).get(PENALTY, 1.0),
        )
        prompt = {"ids": torch.tensor(body["prompt"])}
        request = SpeechRequest(prompt, body.get("seed", 0), body["max_tokens"], parts=(1, 1))
        yield ": keep-alive\n\n"
        if len(body["prompt"]) > 500:
            yield f"data: {json.dumps(error_of(400, 'This model has at most 500 tokens.'))}\n\ndata: [DONE]\n\n"
            return
        async with aclosing(self.engine.speak(request, sampling)) as chunks:
            async for chunk in chunks:
                ids = row_ids[layout.to_columns(chunk.codes)[:, 0]].tolist()
                if chunk.reason == StopReason.STOP_TOKEN:
                    ids.append(int(row_ids[layout.stop_id]))
                reason = None if chunk.reason is None else REASONS[chunk.reason]
                choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": reason, "stop_reason": None}
                if self.token_ids:
                    choice["token_ids"] = ids
                event = {"id": "cmpl-1", "object": "text_completion", "model": self.root, "choices": [choice]}
                yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"


def error_of(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "Error", "param": None, "code": status}}


def refused(status: int, message: str) -> Response:
    return JSONResponse(error_of(status, message), status)


@contextmanager
def listening(stand_in: StandIn) -> Iterator[StandIn]:
    server = uvicorn.Server(uvicorn.Config(stand_in.app(), log_config=None, timeout_graceful_shutdown=1))
    place = bound_socket("127.0.0.1", 0)
    stand_in.url = f"http://127.0.0.1:{place.getsockname()[1]}"
    thread = threading.Thread(target=server.run, args=([place],), daemon=True)
    thread.start()
    assert until(lambda: server.started)
    try:
        yield stand_in
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        asyncio.run(stand_in.engine.close())
