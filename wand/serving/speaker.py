"""Speaks the requests of clients: text and voice in, parts of sound out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeVar

from wand.codecs.reference import Reference
from wand.decoding.engine import Engine
from wand.decoding.generate import Chunk
from wand.decoding.requests import Request, RequestError
from wand.decoding.stopping import StopRules
from wand.model.sampling import Sampling
from wand.model.text_tokens import PassageConditioner
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules, reason_against_passages
from wand.serving.engines.base import EngineAway, EngineFailed, PassageTexts, SpeechEngine
from wand.serving.engines.own import EngineThread
from wand.serving.errors import ApiError
from wand.serving.metrics import Metrics
from wand.serving.settings import ServerSettings
from wand.serving.voices import Voices, voice_columns
from wand.speech.long_text import whole_or_split
from wand.speech.speaking import SpeakOptions, stop_rules
from wand.speech.streaming import SoundChunk, SoundStream, stream_requests
from wand.speech.synthesizer import Synthesizer

log = logging.getLogger("wand.serving")
Result = TypeVar("Result")

# Prefix columns of the engine: this many times those of the longest training utterance, and at least LEAST_PREFIX.
PREFIX_ROOM, LEAST_PREFIX = 2, 512
# Columns of text that fit beside each voice, if texts are no passages: those of a sentence.
TEXT_ROOM = 128
# What clients are told to wait, in seconds, when the queue is full.
RETRY_AFTER = "2"


def make_engine(
    synthesizer: Synthesizer, prefix_length: int, settings: ServerSettings, sampling: Sampling | None = None
) -> Engine:
    """An engine for the texts of clients.

    Args:
        synthesizer: The model.
        prefix_length: P, the most prefix columns of a request.
        settings: Limits of the server.
        sampling: Sampling settings; those of the model by default.
    """
    rules, passages = server_rules(synthesizer, settings), _passage_rules(synthesizer)
    return Engine(
        synthesizer.decoder,
        rows=settings.rows,
        prefix_length=prefix_length,
        rules=rules,
        sampling=sampling,
        passages=passages,
    )


def _passage_rules(synthesizer: Synthesizer) -> PassageRules | None:
    """Rules for passages; None if the model cannot speak them."""
    backbone, window = synthesizer.backbone, synthesizer.window
    if reason_against_passages(backbone, window, synthesizer.codec) is not None:
        return None
    return PassageRules.of(backbone, window)


def text_room(synthesizer: Synthesizer) -> int:
    """Number of prefix columns that an engine needs for the text beside any voice."""
    passages = _passage_rules(synthesizer)
    return TEXT_ROOM if passages is None else passages.size


def server_rules(synthesizer: Synthesizer, settings: ServerSettings) -> StopRules:
    """When a speech ends that has no stop token."""
    return stop_rules(synthesizer.backbone, synthesizer.codec, settings.max_seconds)


@dataclass(slots=True)
class Usage:
    """What a request has used so far.

    Args:
        input_tokens: Tokens of the text as the model reads it; columns of the whole prefix where the place of the text
            in it is not known.
        output_tokens: Codes that the model spoke.
    """

    input_tokens: int = 0
    output_tokens: int = 0


class Speaker:
    """Speaks requests with one model. Texts and sounds are computed in threads, beside the engine.

    Args:
        synthesizer: The model, with a codec that can stream.
        voices: The voices.
        settings: Limits of the server.
        metrics: Figures of the server.
        engine: The engine; wand's own by default.

    Raises:
        ValueError: If the model has no codec that can stream.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        voices: Voices,
        settings: ServerSettings,
        metrics: Metrics,
        engine: SpeechEngine | None = None,
    ) -> None:
        codec = synthesizer.codec or synthesizer.backbone.load_codec()
        if codec.needs_latents:
            raise ValueError(
                f"{type(codec).__name__} needs a second pass over the whole speech, so this model cannot be served as "
                f"a stream: use wand synthesize"
            )
        self.backbone, self.window, self.codec = synthesizer.backbone, synthesizer.window, codec
        self.voices, self.settings, self.metrics = voices, settings, metrics
        # Most prefix columns of a request, and of a voice; None if the engine is another one, which knows its own.
        self._prefix_length = self._voice_columns = None
        if engine is None:
            room = text_room(synthesizer)
            least = max(LEAST_PREFIX, PREFIX_ROOM * (self.backbone.longest_prefix or 0))
            longest = max((voice_columns(self.backbone, voice) for voice in voices.values()), default=0)
            self._prefix_length = max(least, longest + room)
            self._voice_columns = self._prefix_length - room
            engine = EngineThread(partial(make_engine, synthesizer, self._prefix_length, settings))
        self.engine = engine
        metrics.in_engine.set_function(lambda: self.engine.open)
        self._texts = ThreadPoolExecutor(1, "wand-text")
        self._sounds = ThreadPoolExecutor(1, "wand-codec")
        self.active = 0

    async def close(self) -> None:
        """End the engine and the threads."""
        await self.engine.close()
        self._texts.shutdown()
        self._sounds.shutdown()

    def voice(self, name: str) -> Reference:
        """A voice by its name.

        Raises:
            ApiError: If there is none of that name.
        """
        if name not in self.voices:
            raise ApiError(
                400, f"voice {name[:80]!r} is unknown: GET /v1/voices lists them", "voice", "voice_not_found"
            )
        return self.voices[name]

    async def add_voice(self, name: str, sound: bytes, suffix: str, text: str | None) -> None:
        """Add a voice; see `Voices.add`."""
        seconds, columns = self.settings.voice_seconds, self._voice_columns
        await self._in(self._sounds, lambda: self.voices.add(name, sound, suffix, text, seconds, columns))

    def passage(self, reference: Reference) -> tuple[Passage, PassageTexts]:
        """A passage whose text comes later, and what takes its text.

        Raises:
            ApiError: If the model cannot speak text in pieces.
        """
        texts = self.engine.passages
        if texts is None:
            raise ApiError(400, "the engine of this server takes whole texts: only wand's own speaks text in pieces")
        if reason := reason_against_passages(self.backbone, self.window, self.codec):
            raise ApiError(400, f"this model cannot speak text in pieces, because {reason}", code="unsupported")
        return Passage(self.backbone.conditioner, reference), texts

    async def speak(
        self, text: str | Passage, reference: Reference, options: SpeakOptions, usage: Usage | None = None
    ) -> AsyncGenerator[SoundChunk]:
        """Speak a text, and yield its sound in parts. The codes equal those of `Synthesizer.stream`.

        The row of the request is free as soon as the iterator is closed.

        Args:
            text: The text, or a passage whose text arrives while it is spoken.
            reference: The voice.
            options: Settings for speaking.
            usage: Counts what the request uses.

        Raises:
            ApiError: If the text cannot be spoken, or there is no room for another request.
        """
        begun, seconds, end = time.monotonic(), 0.0, "left"
        with self._room():
            try:
                async with aclosing(self._chunks(text, reference, options, usage or Usage())) as chunks:
                    async for chunk in chunks:
                        if not seconds and len(chunk.audio):
                            self.metrics.first_sound.observe(time.monotonic() - begun)
                        seconds += len(chunk.audio) / self.codec.sample_rate
                        yield chunk
                        if seconds > self.settings.max_seconds:  # all parts of a text that is split
                            break
                end = "spoken"
            except ApiError as error:
                end = "failed" if error.status_code >= 500 else "refused"
                raise
            finally:
                self.metrics.speeches.labels(end).inc()
                self.metrics.sound_seconds.inc(seconds)

    async def _chunks(
        self, text: str | Passage, reference: Reference, options: SpeakOptions, usage: Usage
    ) -> AsyncGenerator[SoundChunk]:
        def prepare() -> list[Request]:
            if self.engine.passages is None and not isinstance(text, Passage):
                how = replace(options, long_text=whole_or_split(text, self.backbone, reference))
            else:
                how = options
            requests = stream_requests(self.backbone, self.codec, self.window, text, reference, how)
            for request in requests:
                self._check_length(request)
            return requests

        try:
            requests = await self._in(self._texts, prepare)
        except ValueError as error:
            raise ApiError(400, f"input: {error}", "input", "invalid_value") from error

        @cache  # made in the codec's thread, with the first codes
        def sound() -> SoundStream:
            return SoundStream(self.backbone, self.codec, reference, len(requests))

        def heard(chunk: Chunk) -> SoundChunk:
            return sound()(chunk)

        longest = self.settings.max_seconds
        if len(requests) > 1:  # of a part, as in `Synthesizer.stream`
            longest = min(longest, options.max_seconds)
        columns = self.backbone.layout.columns_of(round(longest * self.backbone.frame_rate))
        for request in requests:
            usage.input_tokens += self._tokens(request)
            limited = replace(request, max_columns=columns)
            async with aclosing(self._codes(limited, options.sampling)) as chunks:
                async for chunk in chunks:
                    usage.output_tokens += chunk.codes.numel()
                    yield await self._in(self._sounds, partial(heard, chunk))

    async def _codes(self, request: Request, sampling: Sampling | None) -> AsyncGenerator[Chunk]:
        """The codes of a request.

        Raises:
            ApiError: If it cannot be spoken.
        """
        try:
            async with aclosing(self.engine.speak(request, sampling)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except EngineAway as error:
            log.error("%s", error)
            raise ApiError(503, "the engine takes no requests: try again later", code="engine_away") from error
        except (RequestError, EngineFailed) as error:
            if error.__cause__ is not None:
                raise ApiError(400, f"input: {error.__cause__}", "input", "invalid_value") from error
            log.error("%s", error)
            raise ApiError(500, "the model could not speak this text; the log of the server says why") from error
        except ValueError as error:
            raise ApiError(400, f"input: {error}", "input", "invalid_value") from error

    def _check_length(self, request: Request) -> None:
        """Check that a request fits the engine. A passage does, because its voice does.

        Raises:
            ValueError: If it does not.
        """
        if self._prefix_length is None or isinstance(request.conditioning, Passage):
            return
        length, most = self.backbone.conditioner.length(request.conditioning), self._prefix_length
        if length > most:
            raise ValueError(
                f"the text and its voice take {length} columns of the prefix, and this server has {most}: "
                f"shorten the text, or speak it in several requests"
            )

    def _tokens(self, request: Request) -> int:
        if isinstance(request.conditioning, Passage):
            return request.conditioning.end
        conditioner = self.backbone.conditioner
        if not isinstance(conditioner, PassageConditioner):
            return conditioner.length(request.conditioning)
        begin, end = conditioner.text_span(request.conditioning)
        return end - begin

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Room for one request.

        Raises:
            ApiError: If there is none.
        """
        if self.active >= self.settings.rows + self.settings.queue:
            raise ApiError(
                429,
                f"{self.active} requests are waiting or being spoken: try again later",
                code="queue_full",
                headers={"Retry-After": RETRY_AFTER},
            )
        self.active += 1
        self.metrics.active.set(self.active)
        try:
            yield
        finally:
            self.active -= 1
            self.metrics.active.set(self.active)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
