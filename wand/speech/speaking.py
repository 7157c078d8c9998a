"""From text to sound: everything between a run and a WAV file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wand.attention import Windows
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Generation, Request
from wand.decoding.generate import generate_all, stream
from wand.decoding.stopping import StopReason, StopRules
from wand.model.backbone import Backbone
from wand.model.batch import Conditioning, make_batch
from wand.model.sampling import Sampling
from wand.text.sentences import split_sentences

# Repetition or silence of this length, in seconds, ends a decode that has lost its stop.
LOOP_SECONDS = 2.0
SILENCE_SECONDS = 2.0
# Between the parts of a text that was split.
PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class SpeakOptions:
    """How texts are spoken.

    Args:
        sampling: How tokens are drawn; the model's own way by default.
        seed: Text i draws with seed + i; where texts are split, part i of all parts.
        max_seconds: Longest speech, in seconds; the longest part, where texts are split.
        rows: Texts (or parts of texts) that are spoken side by side.
        split: Speak long texts in parts, cut at the ends of sentences, with a short pause between them. Otherwise a
            text is one pass, however long.
        first_seconds: Seconds of the first part of a stream: how soon something is heard.
        chunk_seconds: Seconds of every other part of a stream.

    Raises:
        ValueError: If a number is not positive.
    """

    sampling: Sampling | None = None
    seed: int = 0
    max_seconds: float = 30.0
    rows: int = 8
    split: bool = False
    first_seconds: float = 0.2
    chunk_seconds: float = 0.5

    def __post_init__(self) -> None:
        for name in ("max_seconds", "rows", "first_seconds", "chunk_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} is not positive")


DEFAULT_OPTIONS = SpeakOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """One spoken text.

    Args:
        text: What was to be said.
        audio: Float32 ``[N]``; None without a codec.
        codes: ``[K, F]``.
        reason: Why it ended.
        sample_rate: Samples a second of `audio`, in Hz.
    """

    text: str
    audio: Tensor | None
    codes: Tensor
    reason: StopReason
    sample_rate: int


def stop_rules(backbone: Backbone, codec: Codec | None, max_seconds: float) -> StopRules:
    """Length bound, loops and silence in seconds, as rules over columns."""
    layout = backbone.layout
    rate = backbone.columns_per_second
    return StopRules(
        max_columns=layout.columns_of(round(max_seconds * backbone.frame_rate)),
        loop_columns=round(LOOP_SECONDS * rate),
        silence_columns=round(SILENCE_SECONDS * rate),
        silent_tokens=frozenset() if codec is None else _silent_tokens(codec),
    )


@lru_cache(maxsize=4)
def _silent_tokens(codec: Codec) -> frozenset[int]:
    """Codes of the first codebook in a second of silence."""
    silence = codec.encode(torch.zeros(1, 1, codec.sample_rate), codec.sample_rate)
    return frozenset(silence[0, 0].tolist())


def synthesize(
    decoder: Decoder,
    codec: Codec | None,
    texts: Sequence[str],
    reference: Reference,
    options: SpeakOptions = DEFAULT_OPTIONS,
    on_column: Callable[[], object] | None = None,
) -> list[Speech]:
    """Speak texts in the voice of a reference.

    Args:
        decoder: The model, in eval mode, and its window (or full attention).
        codec: Its codec; without one there are codes and no sound.
        texts: What is to be said.
        reference: The voice; see `wand.speech.voices`.
        options: How it is said.
        on_column: Called after every column.

    Raises:
        ValueError: If a text is empty or has characters the model does not know.
    """
    backbone = decoder.backbone
    parts = [split_sentences(text) if options.split and text.strip() else [text] for text in texts]
    said = [part for own in parts for part in own]
    conditionings = [backbone.conditioner(part, reference) for part in said]
    spoken = generate_all(
        decoder,
        [Request(conditioning, options.seed + i) for i, conditioning in enumerate(conditionings)],
        rules=stop_rules(backbone, codec, options.max_seconds),
        rows=options.rows,
        sampling=options.sampling,
        on_column=on_column,
    )
    sounds: Sequence[Tensor | None] = [None] * len(spoken)
    if codec is not None:
        codes = [generation.codes for generation in spoken]
        sounds = sounds_of(backbone, codec, decoder.window, conditionings, codes, [reference] * len(spoken))
    rate = backbone.sample_rate if codec is None else codec.sample_rate
    made = iter(zip(spoken, sounds, strict=True))
    return [_joined(text, [next(made) for _ in own], rate) for text, own in zip(texts, parts, strict=True)]


def _joined(text: str, parts: Sequence[tuple[Generation, Tensor | None]], sample_rate: int) -> Speech:
    """The parts of a text as one speech; it ended as the first part that did not end by itself."""
    reasons = [generation.reason for generation, _ in parts]
    codes = torch.cat([generation.codes for generation, _ in parts], dim=1)
    reason = next((reason for reason in reasons if reason != StopReason.STOP_TOKEN), StopReason.STOP_TOKEN)
    sounds = [sound for _, sound in parts if sound is not None]
    if not sounds:
        return Speech(text, None, codes, reason, sample_rate)
    pause = round(PAUSE_SECONDS * sample_rate)
    padded = [torch.nn.functional.pad(sound, (0, pause)) for sound in sounds[:-1]]
    return Speech(text, torch.cat([*padded, sounds[-1]]), codes, reason, sample_rate)


@dataclass(frozen=True, slots=True, eq=False)
class SoundChunk:
    """A part of a speech as it comes.

    Args:
        audio: Float32 ``[n]``.
        codes: ``[K, m]``, the frames that were spoken since the part before; sound may come a little later.
        reason: Why the speech ended, in its last part.
    """

    audio: Tensor
    codes: Tensor
    reason: StopReason | None


def stream_speech(
    decoder: Decoder,
    codec: Codec,
    text: str,
    reference: Reference,
    options: SpeakOptions = DEFAULT_OPTIONS,
) -> Iterator[SoundChunk]:
    """Speak a text and give its sound part by part, each as soon as it can be heard.

    Args:
        decoder: The model, in eval mode, and its window.
        codec: Its codec; it decodes with a state of its own, so that parts join without a seam where it is causal.
        text: What is to be said.
        reference: The voice; see `wand.speech.voices`.
        options: How it is said.

    Raises:
        ValueError: If the text cannot be spoken, or the codec needs the whole speech.
    """
    backbone = decoder.backbone
    if codec.needs_latents:
        raise ValueError(f"{type(codec).__name__} makes sound of a second pass over the whole speech: do not stream it")
    voice = codec.stream(reference)
    first, others = (
        max(1, round(seconds * backbone.frame_rate)) for seconds in (options.first_seconds, options.chunk_seconds)
    )
    parts = stream(
        decoder,
        Request(backbone.conditioner(text, reference), options.seed, parts=(first, others)),
        rules=stop_rules(backbone, codec, options.max_seconds),
        sampling=options.sampling,
    )
    for part in parts:
        audio = voice.decode(part.codes).cpu()
        if part.reason is not None:
            audio = torch.cat([audio, voice.finish().cpu()])
        yield SoundChunk(audio, part.codes, part.reason)


def sounds_of(
    backbone: Backbone,
    codec: Codec,
    window: Windows,
    conditionings: Sequence[Conditioning],
    codes: Sequence[Tensor],
    references: Sequence[Reference | None],
) -> list[Tensor]:
    """What a model has spoken, as sound.

    Args:
        backbone: The model, in eval mode.
        codec: Its codec. One that needs latents gets them from a second pass of the model.
        window: Under which it spoke, and under which the second pass is run.
        conditionings: What was to be said, and how.
        codes: ``[K, F_i]`` each.
        references: The voices, in codecs whose codes leave them out.
    """
    if not codec.needs_latents:
        return decode_all(codec, codes, references)
    sounds = []
    for conditioning, one, reference in zip(conditionings, codes, references, strict=True):
        batch = make_batch(backbone.conditioner, backbone.layout, [conditioning], [one.cpu()])
        latents = backbone.speech_latents(batch.to(backbone.device), window)[0]
        sounds.append(codec.vocode(latents, reference).cpu() if len(latents) else torch.zeros(0))
    return sounds


def decode(codec: Codec, codes: Tensor, reference: Reference | None = None) -> Tensor:
    """Codes ``[K, F]`` to audio ``[N]``; no frames give no sound."""
    return codec.decode(codes[None], reference)[0, 0].cpu() if codes.shape[1] else torch.zeros(0)


def decode_all(
    codec: Codec, codes: Sequence[Tensor], references: Sequence[Reference | None] | None = None, rows: int = 8
) -> list[Tensor]:
    """As `decode` for many: side by side where the codec is causal, those of like length together.

    Args:
        codec: The codec.
        codes: ``[K, F_i]`` each.
        references: The voices, in codecs whose codes leave them out.
        rows: Decoded at once.
    """
    if not codec.causal or codec.needs_reference:
        voices = references or [None] * len(codes)
        return [decode(codec, one, voice) for one, voice in zip(codes, voices, strict=True)]
    sounds = [torch.zeros(0)] * len(codes)
    order = sorted((i for i, one in enumerate(codes) if one.shape[1]), key=lambda i: codes[i].shape[1])
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        longest = codes[chosen[-1]].shape[1]
        padded = torch.stack([torch.nn.functional.pad(codes[i], (0, longest - codes[i].shape[1])) for i in chosen])
        audio = codec.decode(padded)[:, 0].cpu()
        for i, sound in zip(chosen, audio, strict=True):
            sounds[i] = sound[: len(sound) * codes[i].shape[1] // longest].clone()
    return sounds
