"""From text to sound: everything between a run and a WAV file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wand.attention import AttentionWindow
from wand.backbone import Backbone
from wand.codecs import Codec
from wand.conditioning import Reference, make_batch
from wand.decoding.decoder import generate
from wand.decoding.sampling import Sampling
from wand.decoding.stopping import StopReason, StopRules

# Repetition or silence of this length, in seconds, ends a decode that has lost its stop.
LOOP_SECONDS = 2.0
SILENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """One spoken text.

    Args:
        text: What was to be said.
        audio: Float32 ``[N]``; None without a codec.
        codes: ``[K, F]``.
        reason: Why it ended.
        decode_seconds: Time its batch took in the language model.
    """

    text: str
    audio: Tensor | None
    codes: Tensor
    reason: StopReason
    decode_seconds: float


def stop_rules(backbone: Backbone, codec: Codec | None, max_seconds: float) -> StopRules:
    """Length bound, loops and silence in seconds, as rules over columns."""
    layout = backbone.layout
    rate = backbone.frame_rate * layout.columns_per_frame
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


def read_voice(
    codec: Codec | None, audio: Tensor, sample_rate: int, text: str | None = None, speaker: str | None = None
) -> Reference:
    """A sound as a reference.

    Args:
        codec: The model's; without one there are no codes.
        audio: Float32 ``[N]`` at `sample_rate`.
        sample_rate: In Hz; the codec's, if there is one.
        text: What is said in it, where that is known.
        speaker: Name of the voice, for models that know voices by name.
    """
    if codec is None:
        return Reference(torch.zeros(1, 0, dtype=torch.long), audio, text, None, speaker)
    sound = audio[None, None]
    voice = codec.global_codes(sound, sample_rate)
    codes = codec.encode(sound, sample_rate)[0]
    return Reference(codes, audio, text, None if voice is None else voice[0], speaker)


def synthesize(
    backbone: Backbone,
    codec: Codec | None,
    texts: Sequence[str],
    reference: Reference,
    window: AttentionWindow,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    max_seconds: float = 30.0,
    on_column: Callable[[], object] | None = None,
) -> list[Speech]:
    """Speak texts in the voice of a reference.

    Args:
        backbone: The model, in eval mode.
        codec: Its codec; without one there are codes and no sound.
        texts: Spoken side by side in one batch.
        reference: The voice; see `read_voice`.
        window: Hard window, or full attention.
        sampling: The backbone's own way by default.
        seed: Text i draws with seed + i.
        max_seconds: Longest speech allowed.
        on_column: Called after every column.

    Raises:
        ValueError: If a text is empty or has characters the model does not know.
    """
    conditionings = [backbone.conditioner(text, reference) for text in texts]
    batch = make_batch(backbone.conditioner, backbone.layout, conditionings)
    begin = time.perf_counter()
    spoken = generate(
        backbone,
        batch,
        window,
        rules=stop_rules(backbone, codec, max_seconds),
        sampling=sampling,
        seeds=[seed + i for i in range(len(texts))],
        on_column=on_column,
    )
    took = time.perf_counter() - begin
    sounds: Sequence[Tensor | None] = [None] * len(spoken)
    if codec is not None:
        sounds = decode_all(codec, [generation.codes for generation in spoken], [reference] * len(spoken))
    return [
        Speech(text, sound, generation.codes, generation.reason, took)
        for text, sound, generation in zip(texts, sounds, spoken, strict=True)
    ]


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
