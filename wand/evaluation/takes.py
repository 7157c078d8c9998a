"""Speaks many prepared sentences at once, for tests and for the choice of a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar
from zlib import crc32

from torch import Tensor

from wand.codecs import Codec
from wand.codecs.base import CodecUnavailable
from wand.codecs.reference import Reference
from wand.data.example import Example
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate_all
from wand.decoding.requests import Generation, Request
from wand.evaluation.metric import SpokenSentence, TestMetric, measure_all
from wand.evaluation.quality import Take, judge
from wand.metrics.words import errors
from wand.model.sampling import Sampling
from wand.ranks import apart, gather, is_first, rank_and_world
from wand.recognition import Recogniser
from wand.speech.speaking import sounds_of, stop_rules

T = TypeVar("T")
# Speech is stopped after PATIENCE times the recorded duration plus GRACE seconds.
PATIENCE = 1.5
GRACE = 0.5


def speak_examples(
    decoder: Decoder,
    codec: Codec | None,
    examples: Sequence[Example],
    *,
    seed: int = 0,
    rows: int = 64,
    sampling: Sampling | None = None,
    max_seconds: float = 30.0,
    on_done: Callable[[int], object] | None = None,
) -> list[Generation]:
    """Speak the sentences of examples in the voices of their references.

    Args:
        decoder: The model, in eval mode, and its window (or full attention).
        codec: The model's codec, for the rule that stops at silence; None for no such rule.
        examples: Prepared utterances. Their codes only set the length limit; without a recording, they have no frames.
        seed: Seed for sampling. Each sentence combines it with its id, so the other sentences have no influence.
        rows: Number of sentences that are spoken at once. When one ends, the next one takes its row.
        sampling: Sampling settings; the backbone's own by default.
        max_seconds: Longest speech of a sentence without a recording, in seconds.
        on_done: Called with the number of finished sentences.

    Returns:
        One `Generation` per example, in their order.
    """
    if not examples:  # with few sentences, a process may have none
        return []
    backbone = decoder.backbone
    order = sorted(range(len(examples)), key=lambda i: -examples[i].codes.shape[1])
    longest = round(max_seconds * backbone.frame_rate)
    bounds = [_bound(example.codes.shape[1], backbone.frame_rate) or longest for example in examples]
    requests = [
        Request(
            examples[i].conditioning,
            seed=crc32(f"{examples[i].id}/{seed}".encode()),
            max_columns=backbone.layout.columns_of(bounds[i]),
            name=examples[i].id,
        )
        for i in order
    ]
    spoken = generate_all(
        decoder,
        requests,
        rules=stop_rules(backbone, codec, max(bounds) / backbone.frame_rate),
        rows=rows,
        sampling=sampling,
        on_done=on_done,
    )
    return [generation for _, generation in sorted(zip(order, spoken, strict=True), key=lambda pair: pair[0])]


def _bound(recorded: int, frame_rate: float) -> int:
    """Largest number of frames of a speech, by the frames of its recording; 0 without a recording."""
    return round(PATIENCE * recorded + GRACE * frame_rate) if recorded else 0


def hear_takes(
    recogniser: Recogniser,
    examples: Sequence[Example],
    spoken: Sequence[Generation],
    sounds: Sequence[Tensor],
    sample_rate: int,
    frame_rate: float,
    seed: int,
) -> list[Take]:
    """Transcribe spoken examples and compare with the texts.

    Args:
        recogniser: Transcribes the speech.
        examples: The sentences.
        spoken: What was spoken, one for each.
        sounds: Its audio ``[N]``.
        sample_rate: Sample rate of the audio, in Hz.
        frame_rate: Frame rate of the codes, in Hz.
        seed: Seed of the takes.
    """
    heard = recogniser.transcribe(sounds, sample_rate)
    return [
        judge(example, one, text, seed, frame_rate, recogniser.language)
        for example, one, text in zip(examples, spoken, heard, strict=True)
    ]


def speak_takes(
    decoder: Decoder,
    codec: Codec,
    recogniser: Recogniser,
    examples: Sequence[Example],
    *,
    voice: Callable[[Example], Reference | None] | None = None,
    metrics: Sequence[TestMetric] = (),
    recorded: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    rows: int = 64,
    on_done: Callable[[int], object] | None = None,
) -> dict[str, tuple[Take, Tensor]]:
    """Speak examples, transcribe them and compare with the texts.

    Several processes share the sentences, and each gets all takes.

    Args:
        decoder: The model, in eval mode, and its window (or full attention).
        codec: The model's codec.
        recogniser: Transcribes the speech.
        examples: The sentences.
        voice: Gives the voice of an example, for codecs whose codes do not contain it.
        metrics: Further metrics of every take.
        recorded: Recorded audio ``[M]`` of `share_of(examples)`, by the example's id; required with `metrics`.
        seed: Same as in `speak_examples`.
        rows: Same as in `speak_examples`.
        on_done: Called with the number of finished sentences in all processes (an estimate with several).

    Returns:
        The take and the codes ``[K, F]`` of every example, by its id.
    """
    with apart("speaking"):
        own = _own_takes(
            decoder, codec, recogniser, examples, voice, metrics, recorded or {}, seed=seed, rows=rows, on_done=on_done
        )
    return {name: take for part in gather(own) for name, take in part.items()}


def _own_takes(
    decoder: Decoder,
    codec: Codec,
    recogniser: Recogniser,
    examples: Sequence[Example],
    voice: Callable[[Example], Reference | None] | None,
    metrics: Sequence[TestMetric],
    recorded: Mapping[str, Tensor],
    *,
    seed: int,
    rows: int,
    on_done: Callable[[int], object] | None,
) -> dict[str, tuple[Take, Tensor]]:
    """The takes of this process."""
    share = share_of(examples)
    _, world = rank_and_world()
    tell = None if on_done is None else lambda done: on_done(min(len(examples), done * world))
    spoken = speak_examples(decoder, codec, share, seed=seed, rows=rows, on_done=tell)
    voices = [None if voice is None else voice(example) for example in share]
    conditionings, codes = [example.conditioning for example in share], [one.codes for one in spoken]
    sounds = sounds_of(decoder.backbone, codec, decoder.window, conditionings, codes, voices)
    takes = hear_takes(recogniser, share, spoken, sounds, codec.sample_rate, decoder.backbone.frame_rate, seed)
    if metrics:
        sentences = [
            SpokenSentence(example, take, one, sound, recorded[example.id], codec.sample_rate)
            for example, take, one, sound in zip(share, takes, codes, sounds, strict=True)
        ]
        takes = [
            replace(take, metrics=values) for take, values in zip(takes, measure_all(metrics, sentences), strict=True)
        ]
    return {example.id: (take, one) for example, take, one in zip(share, takes, codes, strict=True)}


def speakable(
    examples: Sequence[Example],
    voice: Callable[[Example], Reference | None] | None = None,
    language: str = "en",
) -> list[Example]:
    """The examples that can be spoken and judged. A warning counts the others and names the first.

    Args:
        examples: Prepared utterances.
        voice: Gives the voice of an example, for codecs whose codes do not contain it.
        language: Language of the texts.
    """
    kept, skipped = [], []
    for example in examples:
        try:
            errors("", example.text, language)
            if voice is not None:
                voice(example)
            kept.append(example)
        except CodecUnavailable:
            raise
        except ValueError as error:
            skipped.append(f"{example.id!r}: {error}")
    if skipped and is_first():
        warnings.warn(
            f"{len(skipped)} of {len(examples)} sentences are not spoken; the first is {skipped[0]}", stacklevel=2
        )
    return kept


def share_of(examples: Sequence[Example]) -> list[Example]:
    """The examples that this process speaks."""
    rank, world = rank_and_world()
    return sorted(examples, key=lambda example: example.codes.shape[1])[rank::world]


def spread(examples: Sequence[T], count: int | None) -> list[T]:
    """Choose `count` examples, evenly spread. None, or a `count` above their number, gives all."""
    if count is None or count >= len(examples):
        return list(examples)
    return [examples[i * len(examples) // count] for i in range(count)]
