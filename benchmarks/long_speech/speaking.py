"""Speaks the long texts, as passages and sentence by sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from zlib import crc32

from benchmarks.long_speech.record import PASSAGE, Facts, Key, Record, keys
from benchmarks.long_speech.texts import LongText
from wand.codecs import Codec
from wand.console.progress import progress
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate_each
from wand.decoding.requests import Generation, Request
from wand.decoding.rows import Rows
from wand.model.backbone import Backbone
from wand.model.batch import Conditioner
from wand.passages.passage import Passage
from wand.speech.speaking import SpeakOptions, stop_rules


def speak(
    decoder: Decoder,
    codec: Codec,
    texts: Sequence[LongText],
    seconds: float,
    seeds: int,
    system: str,
    rows: int,
    record: Record,
) -> None:
    """Speak the texts of one length that are not in the record, all in one engine. Each is stored when it is done.

    Args:
        decoder: The model, in eval mode, and its window.
        codec: Its codec, for the rule that stops at silence.
        texts: A text for each voice.
        seconds: Their length.
        seeds: Number of takes of each text.
        system: One of `benchmarks.long_speech.record.SYSTEMS`.
        rows: Rows of the engine.
        record: Where the speeches are stored.

    Raises:
        ValueError: If the model cannot speak passages.
    """
    by_voice = {text.voice: text for text in texts}
    missing = [
        key
        for key in keys(seconds, list(by_voice), seeds, system)
        if not record.has(key, by_voice[key.voice].sentences)
    ]
    asked = {key: requests_for(key, by_voice[key.voice], decoder.backbone.conditioner) for key in missing}
    requests = [request for own in asked.values() for request in own]
    owners = [key for key, own in asked.items() for _ in own]
    rules = stop_rules(decoder.backbone, codec, SpeakOptions().max_seconds)
    done: dict[Key, dict[int, Generation]] = {key: {} for key in missing}
    columns = 0
    with progress(f"{seconds:g} s, {system}", len(missing), "speeches") as shown, watched(Rows, "exchange") as moving:

        def count() -> None:
            nonlocal columns
            columns += 1
            shown.update(shown.done, f"{columns / decoder.backbone.columns_per_second:.0f} s in each row")

        began, moved = time.process_time(), 0.0
        for ended in generate_each(decoder, requests, rules=rules, rows=rows, on_column=count):
            for number, generation in ended.items():
                key = owners[number]
                done[key][number] = generation
                if len(done[key]) == len(asked[key]):
                    parts = [part for _, part in sorted(done.pop(key).items())]
                    now = time.process_time()
                    facts = facts_of(parts, by_voice[key.voice], decoder.backbone)
                    facts.computing, facts.moving = now - began, moving.seconds - moved
                    began, moved = now, moving.seconds
                    record.add(key, [part.codes for part in parts], facts)
                    shown.advance()


def requests_for(key: Key, text: LongText, conditioner: Conditioner) -> list[Request]:
    """The request for a passage, or those for all sentences."""
    if key.system == PASSAGE:
        return [Request(Passage(conditioner, text.reference, text.text), crc32(f"{key}".encode()), name=str(key))]
    return [
        Request(conditioner(sentence, text.reference), crc32(f"{key}/{i}".encode()), name=sentence)
        for i, sentence in enumerate(text.sentences)
    ]


def facts_of(parts: Sequence[Generation], text: LongText, backbone: Backbone) -> Facts:
    """What the engine tells of a speech."""
    rate = backbone.columns_per_second
    return Facts(
        sentences=list(text.sentences),
        reasons=[str(part.reason) for part in parts],
        words=[(word.text, word.begin / rate, word.end / rate) for part in parts for word in part.words],
        faults=[(str(fault.trouble), fault.column / rate) for part in parts for fault in part.faults],
        computing=0.0,
        moving=0.0,
    )


class Stopwatch:
    """CPU seconds of this process.

    Attributes:
        seconds: The time that was measured so far.
    """

    seconds = 0.0


@contextmanager
def watched(kind: type, name: str) -> Iterator[Stopwatch]:
    """Measure the time of all calls of a method inside the ``with`` block."""
    watch, method = Stopwatch(), getattr(kind, name)

    def measured(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return method(*arguments, **options)
        finally:
            watch.seconds += time.process_time() - began

    setattr(kind, name, measured)
    try:
        yield watch
    finally:
        setattr(kind, name, method)
