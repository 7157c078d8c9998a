"""Turns one utterance into its codes and its example, or into the reason why it is left out."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from math import ceil
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from wand.codecs.base import Codec, CodecUnavailable
from wand.codecs.reference import Reference
from wand.console.interrupt import children_without_signals
from wand.data.example import Example, Refusal
from wand.data.sources.source import CodedSource, SpeechCodes, SpeechSource, Utterance
from wand.data.validate import SpeechLimits, check_rate, check_speech, check_text, read_sound
from wand.deadline import Deadline
from wand.files.sound import Unusable, speech_span
from wand.model.backbone import Backbone
from wand.model.batch import Conditioner

Made = TypeVar("Made")

# Shortest recording to use, in seconds. Shorter ones are noises and breaths.
SHORTEST = 0.3
# Longest time that one utterance may take, in seconds. The first one includes the time to load the codec.
ENCODING_SECONDS = 600.0
# Seconds between two looks at whether a process has finished.
LOOK = 0.5


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
        limits: What the speech must satisfy.
    """

    def __init__(self, source: SpeechSource, codec: Codec | None, limits: SpeechLimits) -> None:
        self.source = source
        self.codec = codec
        self.limits = limits

    def __call__(self, utterance: Utterance) -> SpeechCodes | Refusal:
        """The codes of an utterance, or the reason why there are none.

        Raises:
            CodecUnavailable: If the codec failed for a reason other than the utterance.
        """
        return refused(utterance, self._encode)

    def _encode(self, utterance: Utterance) -> SpeechCodes:
        if self.codec is None:
            return read_codes(self.source, utterance, self.limits)
        rate = self.codec.sample_rate
        audio, (begin, end) = read_speech_of(self.source, utterance, rate, self.limits)
        sound = audio[None, None]
        voice = self.codec.global_codes(sound, rate)
        codes = self.codec.encode(sound, rate)[0].cpu()
        frames, per_sample = codes.shape[1], self.limits.frame_rate / rate
        voiced = int(begin * per_sample), min(frames, ceil(end * per_sample))
        if end == len(audio):
            voiced = voiced[0], frames
        return check_speech(SpeechCodes(codes, None if voice is None else voice[0].cpu(), voiced), self.limits.allowed)


class Checker:
    """Reads an utterance and checks it, without a codec. Worker processes run it.

    Args:
        source: The corpus.
        limits: What the speech must satisfy.
    """

    def __init__(self, source: SpeechSource, limits: SpeechLimits) -> None:
        self.source = source
        self.limits = limits
        self.coded = is_coded(source)

    def __call__(self, utterance: Utterance) -> float | Refusal:
        """The duration of an utterance in seconds, or the reason why it cannot be used."""
        return refused(utterance, self._check)

    def _check(self, utterance: Utterance) -> float:
        if self.coded:
            return read_codes(self.source, utterance, self.limits).codes.shape[1] / self.limits.frame_rate
        rate = self.source.sample_rate
        return len(read_speech_of(self.source, utterance, rate, self.limits)[0]) / rate


def read_codes(source: SpeechSource, utterance: Utterance, limits: SpeechLimits) -> SpeechCodes:
    """The checked codes of an utterance, from a corpus that contains codes.

    Raises:
        ValueError: If they cannot be read or used.
    """
    check_text(utterance.text)
    # Only a cast, because a check of the type would read `coded` for every utterance.
    own = check_speech(cast(CodedSource, source).codes(utterance), limits.allowed)
    seconds = own.codes.shape[1] / limits.frame_rate
    check_duration(utterance.text, seconds, seconds, limits)
    return own


def read_speech_of(
    source: SpeechSource, utterance: Utterance, sample_rate: int, limits: SpeechLimits
) -> tuple[Tensor, tuple[int, int]]:
    """The checked sound of an utterance, float32 ``[N]``, and where its speech begins and ends.

    Raises:
        ValueError: If it cannot be read or used.
    """
    check_text(utterance.text)
    # Codes are whole frames, so a recording may be longer by a part of a frame.
    audio = read_sound(source, utterance, sample_rate, limits.max_seconds + 1 / limits.frame_rate)
    begin, end = speech_span(audio, sample_rate)
    check_duration(utterance.text, len(audio) / sample_rate, (end - begin) / sample_rate, limits)
    return audio, (begin, end)


def check_duration(text: str, seconds: float, spoken: float, limits: SpeechLimits) -> None:
    """Refuse a duration that is too short or too long, also for its text.

    Args:
        text: The words that are said.
        seconds: Duration of the recording.
        spoken: Duration of the speech, without silence around it.
        limits: What the speech must satisfy. Prompts may have any duration.

    Raises:
        Unusable: If it is refused.
    """
    if limits.prompts:
        return
    if seconds < SHORTEST:
        raise Unusable("too short", f"it lasts {seconds:.2f} s, less than {SHORTEST} s")
    if seconds > limits.max_seconds + 1 / limits.frame_rate:
        raise Unusable("too long", f"it lasts {seconds:.1f} s, more than data.max_seconds {limits.max_seconds:g}")
    check_rate(text, spoken)


def refused(utterance: Utterance, work: Callable[[Utterance], Made]) -> Made | Refusal:
    """The result of `work` for an utterance, or the reason why the utterance cannot be used.

    Raises:
        CodecUnavailable: If the codec failed for a reason other than the utterance.
    """
    try:
        return work(utterance)
    except CodecUnavailable:
        raise
    except Unusable as error:
        return Refusal(utterance.id, error.why, str(error))
    except (ValueError, OSError) as error:
        return Refusal(utterance.id, "its sound or codes", str(error))


_work: Callable[[Utterance], Any]


def _start_worker(work: Callable[[Utterance], Any]) -> None:
    global _work
    _work = work
    torch.set_num_threads(1)


def _ready() -> None:
    """Does nothing: its result says that a process has started."""


def _run(utterance: Utterance) -> Any:
    made = _work(utterance)
    if not isinstance(made, SpeechCodes):
        return made
    # Arrays instead of tensors, because every tensor would take an open file of shared memory.
    return made.codes.numpy(), None if made.global_codes is None else made.global_codes.numpy(), made.voiced


def _received(made: Any) -> Any:
    if not isinstance(made, tuple):
        return made
    codes, voice, voiced = made
    return SpeechCodes(torch.from_numpy(codes), None if voice is None else torch.from_numpy(voice), voiced)


@contextmanager
def in_processes(
    work: Callable[[Utterance], Made], workers: int, seconds: float = ENCODING_SECONDS
) -> Iterator[Callable[[Sequence[Utterance]], Iterable[Made]]]:
    """Give a function from utterances to the results of `work`, in order.

    Args:
        work: The function; it is sent to every process.
        workers: Number of processes; 0 works in this one.
        seconds: Longest time that one utterance may take in a process.

    Raises:
        ValueError: If a process ends or an utterance takes too long. The message names the utterances.
    """
    if workers == 0:
        yield lambda utterances: map(work, utterances)
        return
    others = {*multiprocessing.active_children()}
    # Spawned instead of forked, because torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(work,)
    )
    try:
        _wait_for_start(pool)
        yield lambda utterances: _results(pool, utterances, workers, seconds)
    except BaseException:
        # A process may hang, so do not wait for it.
        for child in {*multiprocessing.active_children()} - others:
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _wait_for_start(pool: ProcessPoolExecutor) -> None:
    try:
        with children_without_signals():
            first = pool.submit(_ready)
        if not _done_within(first, ENCODING_SECONDS):
            raise ValueError(
                f"the processes that read and encode did not start within {ENCODING_SECONDS:g} s: set data.workers to 0"
            )
        first.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "the processes that read and encode cannot start: in a Python script, put what you run below "
            '`if __name__ == "__main__":`, because every process imports the script; otherwise set data.workers to 0 '
            "to see the reason"
        ) from error


def _done_within(future: Future[Any], seconds: float) -> bool:
    limit = Deadline(seconds)
    while not future.done() and (left := limit.left()):
        wait([future], min(left, LOOK))
    return future.done()


def _results(pool: ProcessPoolExecutor, utterances: Sequence[Utterance], workers: int, seconds: float) -> Iterator[Any]:
    started: list[Future[Any]] = []
    for i, utterance in enumerate(utterances):
        try:
            if not started:
                with children_without_signals():  # the pool starts its processes here
                    started = [pool.submit(_run, one) for one in utterances]
            if not _done_within(started[i], seconds):
                raise ValueError(
                    f"utterance {utterance.id!r} was not read and encoded within {seconds:g} s: finished shards are "
                    f"kept; leave the utterance out, or repair its sound or the codec, and run the command again"
                )
            yield _received(started[i].result())
        except BrokenProcessPool as error:
            last = utterances[min(i + workers, len(utterances)) - 1]
            raise ValueError(
                f"a process ended while it read and encoded the utterances {utterance.id!r} to {last.id!r} (it was "
                f"killed, or memory ran out): finished shards are kept, so run the command again, with fewer "
                f"data.workers if memory is short"
            ) from error


def stop_second_import() -> None:
    """End a process that imports the user's script again and comes to its work a second time.

    Every process of `in_processes` imports the script. Without a guard the work would begin again in each of them, and
    wait for the lock of the first.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)  # the first process says what to do
