"""Text to a stream of sound. The text may arrive while it is spoken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wand.alignment.times import TimedWord, timed_words
from wand.attention import Windows
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import Chunk, stream
from wand.decoding.requests import Request
from wand.decoding.stopping import StopReason
from wand.model.backbone import Backbone
from wand.passages.passage import Passage
from wand.passages.rules import reason_against_passages
from wand.speech.long_text import parts_of_text
from wand.speech.silence import SilenceCutter
from wand.speech.speaking import DEFAULT_OPTIONS, PAUSE_SECONDS, SpeakOptions, check_text, stop_rules
from wand.speech.voices import check_reference


@dataclass(frozen=True, slots=True, eq=False)
class SoundChunk:
    """A part of a streamed speech.

    Args:
        audio: Float32 ``[n]``.
        codes: ``[K, m]``, the frames since the previous part. The audio may lag behind the codes.
        reason: Why the speech ended; None except in the last part.
        words: In the last part, all words of a passage, with their times in the sound.
    """

    audio: Tensor
    codes: Tensor
    reason: StopReason | None
    words: tuple[TimedWord, ...] = ()


class SoundStream:
    """Turns the codes of a text into its sound, part by part.

    Args:
        backbone: The model.
        codec: Its codec.
        reference: The voice.
        requests: Number of requests for the text. They are spoken one after another, with pauses between them.
    """

    def __init__(self, backbone: Backbone, codec: Codec, reference: Reference, requests: int) -> None:
        self._backbone, self._codec, self._reference = backbone, codec, reference
        self._left = requests
        self._silence = torch.zeros(0)
        self._reason = StopReason.STOP_TOKEN
        self._begin()

    def _begin(self) -> None:
        self._voice = self._codec.stream(self._reference)
        self._shorten = SilenceCutter(self._backbone.silent_codes, self._backbone.longest_silence)

    def __call__(self, chunk: Chunk) -> SoundChunk:
        """The sound of the next codes. The reason is that of the first request without a stop token, if any."""
        audio = torch.cat([self._silence, self._voice.decode(self._shorten(chunk.codes)).cpu()])
        self._silence = self._silence[:0]
        if chunk.reason is None:
            return SoundChunk(audio, chunk.codes, None)
        audio = torch.cat([audio, self._voice.finish().cpu()])
        words = tuple(timed_words(chunk.words, self._backbone, self._shorten.left_out))
        if self._reason == StopReason.STOP_TOKEN:
            self._reason = chunk.reason
        self._left -= 1
        if not self._left:
            return SoundChunk(audio, chunk.codes, self._reason, words)
        self._begin()
        self._silence = torch.zeros(round(PAUSE_SECONDS * self._codec.sample_rate))
        return SoundChunk(audio, chunk.codes, None)


def stream_requests(
    backbone: Backbone,
    codec: Codec,
    window: Windows,
    text: str | Passage,
    reference: Reference,
    options: SpeakOptions = DEFAULT_OPTIONS,
) -> list[Request]:
    """The requests for a text, which are to be spoken one after another as streams.

    Args:
        backbone: The model.
        codec: Its codec.
        window: Its window.
        text: The text, or a passage.
        reference: The voice.
        options: Settings for speaking.

    Raises:
        ValueError: If the text cannot be spoken, or the codec can only decode a whole speech.
    """
    check_reference(reference, backbone)
    if codec.needs_latents:
        raise ValueError(f"{type(codec).__name__} needs a second pass over the whole speech: use generate, not stream")
    first, others = (
        max(1, round(seconds * backbone.frame_rate)) for seconds in (options.first_seconds, options.chunk_seconds)
    )
    if isinstance(text, Passage):
        return [Request(text, options.seed, parts=(first, others), name="passage")]
    check_text(text)
    parts, is_passage = parts_of_text(text, options.long_text, backbone, codec, window, reference)
    if is_passage:
        passage = Passage(backbone.conditioner, reference, text)
        return [Request(passage, options.seed, parts=(first, others), name=text)]
    return [
        Request(backbone.conditioner(part, reference), options.seed + i, parts=(first, others), name=part)
        for i, part in enumerate(parts)
    ]


def stream_speech(
    decoder: Decoder,
    codec: Codec,
    text: str | Iterable[str],
    reference: Reference,
    options: SpeakOptions = DEFAULT_OPTIONS,
) -> Iterator[SoundChunk]:
    """Speak a text and yield its sound in parts, each part as soon as it is ready.

    Args:
        decoder: Decoder of a model in eval mode.
        codec: The model's codec. A causal codec keeps state between parts, so that they join without a seam.
        text: The text, or its pieces: they may end anywhere, and each is read when the speech needs it. Pieces are
            spoken as a passage. The speech is the same, however the text is cut into pieces.
        reference: The voice; see `wand.speech.voices`.
        options: Settings for speaking.

    Raises:
        ValueError: At once, if the text cannot be spoken, the codec can only decode a whole speech, or the model cannot
            speak text in pieces. A piece that cannot be spoken is refused when it is read.
    """
    backbone = decoder.backbone
    if isinstance(text, str):
        given: str | Passage = text
    elif reason := reason_against_passages(backbone, decoder.window, codec):
        raise ValueError(f"this model cannot speak text in pieces, because {reason}: give the whole text")
    else:
        given = Passage(backbone.conditioner, reference, text)
    requests = stream_requests(backbone, codec, decoder.window, given, reference, options)
    sound = SoundStream(backbone, codec, reference, len(requests))
    rules = stop_rules(backbone, codec, options.max_seconds)
    return (
        sound(chunk)
        for request in requests
        for chunk in stream(decoder, request, rules=rules, sampling=options.sampling)
    )
