"""What clients send, with its types. Unknown fields are ignored, as by OpenAI."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from wand.model.sampling import Sampling
from wand.serving.errors import ApiError
from wand.serving.formats import FORMATS
from wand.serving.settings import ServerSettings
from wand.speech.speaking import DEFAULT_OPTIONS, SpeakOptions
from wand.text.characters import EMPTY, is_empty

# What OpenAI has and this server has not.
NOT_MADE = ("aac",)


class Body(BaseModel):
    """A body whose values have exactly the types that are named."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class VoiceId(Body):
    """A voice as an object."""

    id: str


class SamplingBody(Body):
    """How to sample; the settings of the model where a field is missing."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None

    def over(self, default: Sampling) -> Sampling | None:
        """The settings of a model with these changes; None if they change nothing."""
        changed = replace(default, **self.model_dump(exclude_none=True))
        return None if changed == default else changed


class Wishes(Body):
    """How to speak: everything except the text."""

    voice: str | VoiceId
    model: str | None = None
    instructions: str | None = None
    speed: float = 1.0
    seed: int = Field(0, ge=-(2**63), le=2**63 - 1)
    sampling: SamplingBody | None = None
    first_seconds: float = DEFAULT_OPTIONS.first_seconds

    @property
    def voice_name(self) -> str:
        """The name of the voice."""
        return self.voice if isinstance(self.voice, str) else self.voice.id

    def options(self, settings: ServerSettings, default: Sampling) -> SpeakOptions:
        """Settings for speaking.

        Args:
            settings: Those of the server.
            default: How the model samples.

        Raises:
            ApiError: If the server cannot do what is wished.
        """
        if self.model not in (None, settings.model):
            raise ApiError(404, f"model: this server has {settings.model!r} only", "model", "model_not_found")
        if self.speed != 1.0:
            raise ApiError(400, f"speed: this model speaks at speed 1.0 only, not {self.speed}", "speed", "unsupported")
        if self.instructions:
            raise ApiError(400, "instructions: this model takes none, leave them out", "instructions", "unsupported")
        try:
            sampling = None if self.sampling is None else self.sampling.over(default)
        except ValueError as error:
            raise ApiError(400, f"sampling: {error}", "sampling", "invalid_value") from error
        try:
            return SpeakOptions(sampling, self.seed, first_seconds=self.first_seconds)
        except ValueError as error:
            raise ApiError(400, str(error), "first_seconds", "invalid_value") from error


class SpeechBody(Wishes):
    """The body of ``POST /v1/audio/speech``."""

    input: str
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"

    def check(self, settings: ServerSettings) -> None:
        """Check the text and the format.

        Raises:
            ApiError: If the server cannot speak the text, or has no such format.
        """
        if is_empty(self.input):
            raise ApiError(400, f"input: {EMPTY}", "input", "empty_text")
        if len(self.input) > settings.max_letters:
            raise ApiError(
                400,
                f"input: the text has {len(self.input)} letters, and this server takes at most {settings.max_letters}",
                "input",
                "string_above_max_length",
            )
        if self.response_format in NOT_MADE:
            raise ApiError(
                400,
                f"response_format: this server makes no {self.response_format}: ask for {', '.join(FORMATS)}",
                "response_format",
                "unsupported",
            )


class StreamBody(Wishes):
    """The first message of a WebSocket."""


class TextBody(Body):
    """A later message of a WebSocket: more text, its end, or both."""

    text: str = ""
    end: bool = False
