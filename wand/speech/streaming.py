"""Text to a stream of sound. The text may arrive while it is spoken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wand.alignment.times import TimedWord, timed_words
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import stream
from wand.decoding.requests import Request
from wand.decoding.stopping import StopReason
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
        ValueError: If the text cannot be spoken, the codec can only decode a whole speech, or the model cannot speak
            text in pieces.
    """
    backbone = decoder.backbone
    check_reference(reference, backbone)
    if codec.needs_latents:
        raise ValueError(f"{type(codec).__name__} needs a second pass over the whole speech: use generate, not stream")
    if isinstance(text, str):
        check_text(text)
        parts, is_passage = parts_of_text(text, options.long_text, backbone, codec, decoder.window, reference)
    elif reason := reason_against_passages(backbone, decoder.window, codec):
        raise ValueError(f"this model cannot speak text in pieces, because {reason}: give the whole text")
    if not isinstance(text, str) or is_passage:
        passage = Passage(backbone.conditioner, reference, text)
        yield from _stream_one(decoder, codec, Request(passage, options.seed), reference, options)
        return
    requests = [
        Request(backbone.conditioner(part, reference), options.seed + i, name=part) for i, part in enumerate(parts)
    ]
    yield from _joined([_stream_one(decoder, codec, request, reference, options) for request in requests], codec)


def _joined(streams: Sequence[Iterator[SoundChunk]], codec: Codec) -> Iterator[SoundChunk]:
    """Join the streams of a text that is split. The reason is that of the first one without a stop token, if any."""
    reason = StopReason.STOP_TOKEN
    for i, chunks in enumerate(streams):
        silence = torch.zeros(round(PAUSE_SECONDS * codec.sample_rate) if i else 0)
        for chunk in chunks:
            if chunk.reason is not None and reason == StopReason.STOP_TOKEN:
                reason = chunk.reason
            ended = chunk.reason is not None and i + 1 == len(streams)
            yield SoundChunk(torch.cat([silence, chunk.audio]), chunk.codes, reason if ended else None)
            silence = silence[:0]


def _stream_one(
    decoder: Decoder, codec: Codec, request: Request, reference: Reference, options: SpeakOptions
) -> Iterator[SoundChunk]:
    """Speak one request in parts."""
    backbone = decoder.backbone
    voice, shorten = codec.stream(reference), SilenceCutter(backbone.silent_codes, backbone.longest_silence)
    first, others = (
        max(1, round(seconds * backbone.frame_rate)) for seconds in (options.first_seconds, options.chunk_seconds)
    )
    parts = stream(
        decoder,
        replace(request, parts=(first, others)),
        rules=stop_rules(backbone, codec, options.max_seconds),
        sampling=options.sampling,
    )
    for part in parts:
        audio = voice.decode(shorten(part.codes)).cpu()
        if part.reason is not None:
            audio = torch.cat([audio, voice.finish().cpu()])
        words = tuple(timed_words(part.words, backbone, shorten.left_out))
        yield SoundChunk(audio, part.codes, part.reason, words)
