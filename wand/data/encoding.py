"""Turns one utterance into its codes and its example, or into the reason why it is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from wand.codecs.base import Codec, CodecUnavailable
from wand.codecs.reference import Reference
from wand.data.example import Example, Refusal
from wand.data.sources.source import CodedSource, SpeechCodes, SpeechSource, Utterance
from wand.files.audio import resample
from wand.model.backbone import Backbone
from wand.model.batch import Conditioner

# Shortest recording to use, in seconds. Shorter ones are noises and breaths.
SHORTEST = 0.3


def is_coded(source: SpeechSource) -> bool:
    """Whether a corpus contains codes, so that no codec is needed."""
    return isinstance(source, CodedSource) and source.coded


def check_length(
    utterance: Utterance, own: SpeechCodes, backbone: Backbone, max_seconds: float
) -> SpeechCodes | Refusal:
    """Refuse an utterance that is too short or too long."""
    frames = own.codes.shape[1]
    seconds, columns = frames / backbone.frame_rate, backbone.layout.columns_of(frames)
    if seconds < SHORTEST:
        return Refusal(utterance.id, "too short", f"it lasts {seconds:.2f} s, less than {SHORTEST} s")
    if seconds > max_seconds:
        return Refusal(
            utterance.id, "too long", f"it lasts {seconds:.1f} s, more than data.max_seconds {max_seconds:g}"
        )
    if backbone.max_speech_tokens is not None and columns > backbone.max_speech_tokens:
        bound = backbone.max_speech_tokens
        return Refusal(utterance.id, "too long", f"it takes {columns} columns, but the model has {bound} positions")
    return own


def make_example(
    utterance: Utterance, codes: Tensor, source: str, reference: Reference, conditioner: Conditioner
) -> Example | Refusal:
    """Make the example of one utterance, with its conditioning."""
    try:
        conditioning = conditioner(utterance.text, reference)
    except ValueError as error:
        return Refusal(utterance.id, "its text or reference", str(error))
    return Example(utterance.id, utterance.text, utterance.speaker, conditioning, codes, source)


class Encoder:
    """Turns an utterance into codes. Worker processes run it.

    Args:
        source: The corpus.
        codec: The codec; None if the corpus contains codes.
    """

    def __init__(self, source: SpeechSource, codec: Codec | None) -> None:
        self.source = source
        self.codec = codec

    def __call__(self, utterance: Utterance) -> SpeechCodes | Refusal:
        """The codes of an utterance, or the reason why there are none.

        Raises:
            CodecUnavailable: If the codec failed for a reason other than the utterance.
        """
        try:
            if self.codec is None:
                assert isinstance(self.source, CodedSource)
                return self.source.codes(utterance)
            rate = self.codec.sample_rate
            audio = resample(self.source.audio(utterance), self.source.sample_rate, rate)[None, None]
            voice = self.codec.global_codes(audio, rate)
            return SpeechCodes(self.codec.encode(audio, rate)[0], None if voice is None else voice[0])
        except CodecUnavailable:
            raise
        except ValueError as error:
            return Refusal(utterance.id, "its sound or codes", str(error))


_encoder: Encoder


def _start_worker(encoder: Encoder) -> None:
    global _encoder
    _encoder = encoder
    torch.set_num_threads(1)


def _encode(utterance: Utterance) -> Refusal | list[np.ndarray | None]:
    # Arrays instead of tensors, because every tensor would take an open file of shared memory.
    own = _encoder(utterance)
    if isinstance(own, Refusal):
        return own
    return [own.codes.numpy(), None if own.global_codes is None else own.global_codes.numpy()]


def _received(made: Refusal | list[np.ndarray | None]) -> SpeechCodes | Refusal:
    if isinstance(made, Refusal):
        return made
    codes, voice = (None if part is None else torch.from_numpy(part) for part in made)
    assert codes is not None
    return SpeechCodes(codes, voice)


Encode = Callable[[Sequence[Utterance]], Iterable[SpeechCodes | Refusal]]


@contextmanager
def encoders(encoder: Encoder, workers: int) -> Iterator[Encode]:
    """Give a function from utterances to their codes, in order. It uses worker processes, or none if `workers` is 0."""
    if workers == 0:
        yield lambda utterances: map(encoder, utterances)
        return
    # Spawned instead of forked, because torch's threads do not survive a fork.
    with get_context("spawn").Pool(workers, initializer=_start_worker, initargs=(encoder,)) as pool:
        yield lambda utterances: map(_received, pool.imap(_encode, utterances, chunksize=8))
