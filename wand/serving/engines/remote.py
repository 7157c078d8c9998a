"""Another program as the engine of a server. wand keeps text, voices and codec."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Any

from wand.decoding.generate import Chunk
from wand.decoding.requests import Request
from wand.decoding.stopping import StopReason, StopRules
from wand.model.backbone import Backbone
from wand.model.batch import make_batch
from wand.model.sampling import Sampling
from wand.passages.passage import Passage
from wand.serving.engines.base import EngineAway, EngineFailed
from wand.serving.engines.reading import SpeechReader
from wand.serving.engines.vllm import PENALTY, VllmServer

log = logging.getLogger("wand.serving")


class RemoteEngine:
    """vLLM at an address, which runs an export of the model with the plugin wand-vllm.

    It gets the ids of the prefix and sends the ids of the speech. Its random numbers are its own: a seed gives another
    speech than wand's own engine, unless the sampling is greedy.

    Args:
        url: Address of the engine.
        backbone: The model, whose conditioner makes the prefixes.
        rules: When to end a speech that has no stop token.
        key: The key that the engine asks for; None if it needs none.

    Raises:
        ValueError: If no other engine can speak for this model, or the address is none.

    Attributes:
        passages: None, because a passage changes its prefix while it is spoken.
        open: Number of requests that are waiting or being spoken.
        alive: Whether the engine was not closed. Whether it can be reached is known with the next request.
        model: Name of the model on the engine, after `connect`.
    """

    passages = None

    def __init__(self, url: str, backbone: Backbone, rules: StopRules, key: str | None = None) -> None:
        lm = backbone.causal_lm()
        if lm is None:
            raise ValueError(
                f"--engine cannot speak for {type(backbone).__name__}, whose prefix or speech is not token ids: "
                f"leave it out to use wand's own engine"
            )
        if type(backbone.sampling) is not Sampling:
            raise ValueError(
                f"--engine cannot sample with {type(backbone.sampling).__name__}, which is a rule of its own: leave it "
                f"out to use wand's own engine"
            )
        self._backbone, self._rules, self._lm, self._server = backbone, rules, lm, VllmServer(url, key)
        ids: list[int] = lm.row_ids.tolist()
        self._rows = {id: row for row, id in enumerate(ids)}
        self._stop_ids = [ids[row] for row in backbone.stop_ids]
        self.model, self.open, self.alive = "", 0, True

    @classmethod
    def connect(cls, url: str, backbone: Backbone, rules: StopRules, name: str, key: str | None = None) -> RemoteEngine:
        """An engine that was found to run the model. Needs an event loop of its own.

        Args:
            url: Address of the engine.
            backbone: The model.
            rules: When to end a speech that has no stop token.
            name: Name of the model there, or of the folder of its export.
            key: The key that the engine asks for; None if it needs none.

        Raises:
            ValueError: If the engine cannot be reached, or does not speak the ids of this model.
        """

        async def find() -> str:
            probe = cls(url, backbone, rules, key)
            try:
                return await probe._find(name)
            except EngineAway as error:
                raise ValueError(f"--engine: {error}: start `vllm serve` there first") from error
            except EngineFailed as error:
                raise ValueError(f"--engine: {error}") from error
            finally:
                await probe.close()

        engine = cls(url, backbone, rules, key)
        engine.model = asyncio.run(find())
        if backbone.sampling.repetition is not None:
            log.warning("the engine at %s draws no id again where one repeats, as this model wishes", url)
        return engine

    async def _find(self, name: str) -> str:
        """The name of the model on the engine, which was seen to speak ids of the speech."""
        server = self._server
        model = await server.model(name, PurePosixPath(name) / self._lm.folder)
        prompt = self._stop_ids[:1]  # any id that the model knows
        if not await server.has_plugin(model, prompt):
            raise ValueError(
                f"--engine: vLLM at {server.url} runs without the plugin wand-vllm, and would ignore the window: "
                f"install it there, and start vLLM again"
            )
        async with aclosing(server.stream({"model": model, "prompt": prompt, "max_tokens": 1})) as spoken:
            async for ids, _ in spoken:
                for id in ids:
                    self._row(id)
        return model

    async def speak(self, request: Request, sampling: Sampling | None = None) -> AsyncGenerator[Chunk]:
        """Speak a request; see `SpeechEngine`."""
        wish = self._wish(request, sampling or self._backbone.sampling)
        stops = frozenset(self._backbone.stop_ids)
        reader = SpeechReader(self._backbone.layout, stops, self._rules, wish["max_tokens"], request.parts)
        self.open += 1
        try:
            async with aclosing(self._server.stream(wish)) as spoken:
                async for ids, reason in spoken:
                    for id in ids:
                        chunk = reader.add(self._row(id))
                        if chunk is not None:
                            yield chunk
                        if chunk is not None and chunk.reason is not None:
                            return
                    if reason == "length":  # before the limit: the positions of the engine have ended
                        yield reader.end(StopReason.LENGTH)
                        return
                    if reason is not None:
                        raise EngineFailed(f"the engine at {self._server.url} ended a speech without a stop: {reason}")
        finally:
            self.open -= 1
        raise EngineAway(f"the engine at {self._server.url} has cut off a speech")

    async def close(self) -> None:
        """Close the connections to the engine, which goes on."""
        self.alive = False
        await self._server.close()

    def _wish(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        """What vLLM is asked for."""
        assert not isinstance(request.conditioning, Passage), "the speaker makes none"
        backbone = self._backbone
        bounds = backbone.speech_bounds(make_batch(backbone.conditioner, backbone.layout, [request.conditioning]))
        least, most = (0, None) if bounds is None else (int(bounds[0]), int(bounds[1]))
        limits = [request.max_columns or self._rules.max_columns, backbone.max_speech_tokens, most]
        longest = min(limit for limit in limits if limit is not None)
        return {
            "model": self.model,
            "prompt": self._lm.prompt_ids(request.conditioning).tolist(),
            "seed": request.seed,
            "max_tokens": longest,
            "min_tokens": min(least, longest),
            "stop_token_ids": self._stop_ids,
            "ignore_eos": True,  # the stops are those of the speech
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "repetition_penalty": 1.0,  # vLLM's own counts the prompt, too
            "vllm_xargs": {PENALTY: sampling.repetition_penalty},
        }

    def _row(self, id: int) -> int:
        if id not in self._rows:
            raise EngineFailed(
                f"the engine at {self._server.url} speaks the id {id}, which is no speech: give it the folder of the "
                f"export with speech.json"
            )
        return self._rows[id]
