"""Text to sound: speak texts with a decoder and a codec."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from wand.alignment.times import TimedWord, timed_words
from wand.attention import Windows
from wand.checks import check_number, check_whole_number
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.interrupt import raise_if_stopped
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate_all, generate_each
from wand.decoding.requests import Generation, Request
from wand.decoding.stopping import StopReason, StopRules
from wand.model.backbone import Backbone
from wand.model.batch import Conditioning, make_batch
from wand.model.columns import FlattenedLayout
from wand.model.sampling import Sampling
from wand.passages.follower import Fault, SpokenWord
from wand.passages.passage import Passage
from wand.speech.long_text import LONG_TEXTS, LongText, parts_of_text
from wand.speech.silence import SilenceCutter
from wand.speech.voices import check_reference
from wand.text.characters import check_not_empty

# A decode that misses its stop token ends after this many seconds of repetition or of silence.
LOOP_SECONDS = 2.0
SILENCE_SECONDS = 2.0
# Lengths of speech that can be asked for, in seconds: up to a day.
LENGTHS = "(0, 86400]"
# Longer speech is decoded in parts of this length, which bounds the memory of the codec.
STREAMED_SECONDS = 60.0
# Pause between two parts of a text that was split, in seconds.
PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class SpeakOptions:
    """Settings for speaking texts.

    Args:
        sampling: Sampling settings; None uses those of the model.
        seed: Random seed. Text i uses seed + i; if texts are split, part i does, where i counts the parts of all texts.
        max_seconds: Maximum length of a speech (of a part, if texts are split), in seconds. A passage has no limit.
        rows: Number of texts (of parts, if texts are split) that are spoken at the same time.
        long_text: How texts are spoken. ``passage``: in one continuous decode, in which the text in the prefix moves
            with the speech. ``split``: sentence by sentence, with short pauses. ``whole``: with the whole text in the
            prefix, however long it is. ``auto``: as a passage if the alignment heads of the model are known; otherwise
            split if the text is longer than those of the training, else whole.
        first_seconds: Length of the first part of a stream, in seconds. A shorter part is heard sooner.
        chunk_seconds: Length of every other part of a stream, in seconds.

    Raises:
        ValueError: If a value is out of range.
    """

    sampling: Sampling | None = None
    seed: int = 0
    max_seconds: float = 30.0
    rows: int = 8
    long_text: LongText = "auto"
    first_seconds: float = 0.2
    chunk_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.sampling, Sampling | None):
            raise ValueError(f"sampling {self.sampling!r} is not a wand.Sampling")
        check_whole_number("seed", self.seed, least=-(2**63), most=2**63 - 1)
        check_whole_number("rows", self.rows, least=1)
        if self.long_text not in LONG_TEXTS:
            raise ValueError(f"long_text {self.long_text!r} is not one of {', '.join(LONG_TEXTS)}")
        for name in ("max_seconds", "first_seconds", "chunk_seconds"):
            check_number(name, getattr(self, name), LENGTHS)


DEFAULT_OPTIONS = SpeakOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """One spoken text.

    Args:
        text: The text.
        audio: Float32 ``[N]``; None without a codec.
        codes: Codes of the speech, ``[K, F]``.
        reason: Why the speech ended.
        sample_rate: Sample rate of `audio`, in Hz.
        words: The words of a passage, with their times in the sound; empty for other texts.
        faults: What went wrong in a passage and could not be repaired.
    """

    text: str
    audio: Tensor | None
    codes: Tensor
    reason: StopReason
    sample_rate: int
    words: tuple[TimedWord, ...] = ()
    faults: tuple[Fault, ...] = ()


def check_text(text: object) -> None:
    """Check that a text has words to speak.

    Raises:
        ValueError: If it is not a string, or is empty.
    """
    if not isinstance(text, str):
        raise ValueError(f"the text {text!r} is not a string")
    check_not_empty(text)


def stop_rules(backbone: Backbone, codec: Codec | None, max_seconds: float) -> StopRules:
    """Stop rules for a model, converted from seconds to columns."""
    layout = backbone.layout
    rate = backbone.columns_per_second
    return StopRules(
        max_columns=layout.columns_of(round(max_seconds * backbone.frame_rate)),
        loop_columns=round(LOOP_SECONDS * rate),
        silence_columns=round(SILENCE_SECONDS * rate),
        silent_tokens=frozenset() if codec is None else codec.silent_codes,
        first_tokens=layout.sizes[0] if isinstance(layout, FlattenedLayout) else None,
    )


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
        decoder: Decoder of a model in eval mode.
        codec: The model's codec. Without one, the result has codes and no audio.
        texts: The texts.
        reference: The voice; see `wand.speech.voices`.
        options: Settings for speaking.
        on_column: Called after every column.

    Raises:
        ValueError: If a text is empty or has characters the model does not know.
    """
    job = _Job(decoder, codec, texts, reference, options)
    spoken = generate_all(decoder, job.requests, on_column=on_column, **job.how)
    return job.speeches(range(len(texts)), spoken)


def synthesize_each(
    decoder: Decoder,
    codec: Codec | None,
    texts: Sequence[str],
    reference: Reference,
    options: SpeakOptions = DEFAULT_OPTIONS,
    on_column: Callable[[], object] | None = None,
    first: int = 0,
) -> Iterator[tuple[int, Speech]]:
    """Do the same as `synthesize`, and yield each text's number and speech as soon as the text is spoken.

    Args:
        decoder: Decoder of a model in eval mode.
        codec: The model's codec. Without one, the result has codes and no audio.
        texts: The texts.
        reference: The voice; see `wand.speech.voices`.
        options: Settings for speaking.
        on_column: Called after every column.
        first: Number of the first text to speak. It has the same seed as if all texts were spoken.
    """
    job = _Job(decoder, codec, texts, reference, options)
    skipped = job.ends[first - 1] if first else 0
    spoken: dict[int, Generation] = {}
    told = set(range(first))
    for ended in generate_each(decoder, job.requests[skipped:], on_column=on_column, **job.how):
        spoken |= {skipped + i: generation for i, generation in ended.items()}
        for number in sorted({job.text_of(skipped + i) for i in ended} - told):
            if all(i in spoken for i in job.parts_of(number)):
                told.add(number)
                (speech,) = job.speeches([number], spoken)
                yield number, speech


class _Job:
    """Texts, cut into the parts that are spoken in one pass each."""

    def __init__(
        self, decoder: Decoder, codec: Codec | None, texts: Sequence[str], reference: Reference, options: SpeakOptions
    ) -> None:
        for text in texts:
            check_text(text)
        backbone = decoder.backbone
        check_reference(reference, backbone)
        self.decoder, self.codec, self.texts, self.reference = decoder, codec, texts, reference
        how, window = options.long_text, decoder.window
        parts = [parts_of_text(text, how, backbone, codec, window, reference) for text in texts]
        self.ends = list(accumulate(len(own) for own, _ in parts))
        said = [(part, is_passage) for own, is_passage in parts for part in own]
        self.conditionings = [
            Passage(backbone.conditioner, reference, part) if is_passage else backbone.conditioner(part, reference)
            for part, is_passage in said
        ]
        self.requests = [
            Request(conditioning, options.seed + i, name=part)
            for i, ((part, _), conditioning) in enumerate(zip(said, self.conditionings, strict=True))
        ]
        rules = stop_rules(backbone, codec, options.max_seconds)
        self.how: dict[str, Any] = {"rules": rules, "rows": options.rows, "sampling": options.sampling}

    def text_of(self, part: int) -> int:
        """Number of the text that a part belongs to."""
        return bisect_right(self.ends, part)

    def parts_of(self, text: int) -> range:
        """Numbers of the parts of a text."""
        return range(self.ends[text - 1] if text else 0, self.ends[text])

    def speeches(self, numbers: Sequence[int], spoken: Sequence[Generation] | Mapping[int, Generation]) -> list[Speech]:
        """The speeches of some texts, from the generations of their parts, by number."""
        backbone, codec = self.decoder.backbone, self.codec
        chosen = [i for number in numbers for i in self.parts_of(number)]
        sounds: Sequence[Tensor | None] = [None] * len(chosen)
        if codec is not None:
            said, codes = [self.conditionings[i] for i in chosen], [spoken[i].codes for i in chosen]
            sounds = sounds_of(backbone, codec, self.decoder.window, said, codes, [self.reference] * len(chosen))
        rate = backbone.sample_rate if codec is None else codec.sample_rate
        made = iter(zip((spoken[i] for i in chosen), sounds, strict=True))
        return [_joined(self.texts[n], [next(made) for _ in self.parts_of(n)], rate, backbone) for n in numbers]


def _joined(
    text: str, parts: Sequence[tuple[Generation, Tensor | None]], sample_rate: int, backbone: Backbone
) -> Speech:
    """Join the parts of a text. The reason is that of the first part without a stop token, if there is one."""
    reasons = [generation.reason for generation, _ in parts]
    codes = torch.cat([generation.codes for generation, _ in parts], dim=1)
    reason = next((reason for reason in reasons if reason != StopReason.STOP_TOKEN), StopReason.STOP_TOKEN)
    sounds = [sound for _, sound in parts if sound is not None]
    audio = None
    if sounds:
        pause = round(PAUSE_SECONDS * sample_rate)
        padded = [torch.nn.functional.pad(sound, (0, pause)) for sound in sounds[:-1]]
        audio = torch.cat([*padded, sounds[-1]])
    last = parts[-1][0]  # a passage has one part
    words = words_in_sound(last.words, backbone, last.codes) if sounds else tuple(timed_words(last.words, backbone))
    return Speech(text, audio, codes, reason, sample_rate, words, last.faults)


def words_in_sound(words: Iterable[SpokenWord], backbone: Backbone, codes: Tensor) -> tuple[TimedWord, ...]:
    """The times of words in the sound that `sounds_of` makes, which leaves out long silences.

    Args:
        words: Words, with their speech columns.
        backbone: The model.
        codes: The whole speech, ``[K, F]``.
    """
    cut = SilenceCutter(backbone.silent_codes, backbone.longest_silence)
    cut(codes)
    return tuple(timed_words(words, backbone, cut.left_out))


def sounds_of(
    backbone: Backbone,
    codec: Codec,
    window: Windows,
    conditionings: Sequence[Conditioning | Passage],
    codes: Sequence[Tensor],
    references: Sequence[Reference | None],
) -> list[Tensor]:
    """Turn the codes that a model has spoken into audio.

    Args:
        backbone: The model, in eval mode.
        codec: The model's codec. If it needs latents, a second pass of the model computes them.
        window: The window the model spoke under; the second pass uses it too.
        conditionings: Text and voice of each speech.
        codes: ``[K, F_i]`` for each speech.
        references: The voice of each speech, for codecs whose codes do not contain it.
    """
    if not codec.needs_latents:
        heard = [SilenceCutter(backbone.silent_codes, backbone.longest_silence)(one) for one in codes]
        return decode_all(codec, heard, references)
    sounds = []
    for conditioning, one, reference in zip(conditionings, codes, references, strict=True):
        raise_if_stopped()
        assert not isinstance(conditioning, Passage), "codecs with a second pass speak no passages"
        batch = make_batch(backbone.conditioner, backbone.layout, [conditioning], [one.cpu()])
        latents = backbone.speech_latents(batch.to(backbone.device), window)[0]
        sounds.append(codec.vocode(latents, reference).cpu() if len(latents) else torch.zeros(0))
    return sounds


def decode(codec: Codec, codes: Tensor, reference: Reference | None = None) -> Tensor:
    """Decode codes ``[K, F]`` to audio ``[N]``. Empty codes give empty audio. Long speech is decoded as a stream."""
    frames = round(STREAMED_SECONDS * codec.frame_rate)
    if codes.shape[1] > frames:
        stream = codec.stream(reference)
        return torch.cat([*(stream.decode(part).cpu() for part in codes.split(frames, dim=1)), stream.finish().cpu()])
    return codec.decode(codes[None], reference)[0, 0].cpu() if codes.shape[1] else torch.zeros(0)


def decode_all(
    codec: Codec, codes: Sequence[Tensor], references: Sequence[Reference | None] | None = None, rows: int = 8
) -> list[Tensor]:
    """Decode many speeches. A causal codec decodes them in batches of similar length.

    Args:
        codec: The codec.
        codes: ``[K, F_i]`` for each speech.
        references: The voice of each speech, for codecs whose codes do not contain it.
        rows: Batch size.
    """
    if not codec.causal or codec.needs_reference:
        voices = references or [None] * len(codes)
        return [decode(codec, one, voice) for one, voice in zip(codes, voices, strict=True)]
    sounds = [torch.zeros(0)] * len(codes)
    frames = round(STREAMED_SECONDS * codec.frame_rate)
    order = sorted((i for i, one in enumerate(codes) if 0 < one.shape[1] <= frames), key=lambda i: codes[i].shape[1])
    for i, one in enumerate(codes):
        if one.shape[1] > frames:
            raise_if_stopped()
            sounds[i] = decode(codec, one)
    for start in range(0, len(order), rows):
        raise_if_stopped()
        chosen = order[start : start + rows]
        longest = codes[chosen[-1]].shape[1]
        padded = torch.stack([torch.nn.functional.pad(codes[i], (0, longest - codes[i].shape[1])) for i in chosen])
        audio = codec.decode(padded)[:, 0].cpu()
        for i, sound in zip(chosen, audio, strict=True):
            sounds[i] = sound[: len(sound) * codes[i].shape[1] // longest].clone()
    return sounds
