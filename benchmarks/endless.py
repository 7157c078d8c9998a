"""Half an hour of speech from text that is read while it is spoken: ``python -m benchmarks.endless RUN``.

The student of a run speaks one passage; its sound is thrown away. Measured are the memory of the cache and of the
process, how far ahead the text is read, the share of the moves in the decode, the time of a step late in the speech
against one early in another speech (stepped in turn), and the delay of the first sound when the text arrives word by
word. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from benchmarks.long_speech.texts import sentences_of
from benchmarks.private_memory import private_mib
from benchmarks.voice.stages import reference_of
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.progress import progress
from wand.console.tables import markdown
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Engine
from wand.decoding.requests import Part, Request
from wand.decoding.rows import Rows
from wand.model.backbone import Backbone
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules
from wand.runs.checkpoints import load_backbone_and_settings
from wand.speech.silence import SilenceCutter
from wand.speech.speaking import SpeakOptions, stop_rules
from wand.speech.streaming import stream_speech

VOICE = "fiona"  # a voice of espeak-ng, which needs no further package
EARLY = 60.0  # seconds of speech after which a decoder is called early
STEPS = 400


class Words:
    """An endless iterator of words that counts them."""

    def __init__(self, sentences: list[str]) -> None:
        self._words = cycle(" ".join(sentences).split())
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.read += 1
        return next(self._words) + " "


class Speaker:
    """An engine that speaks one endless passage and decodes its sound."""

    def __init__(self, backbone: Backbone, decoder: Decoder, codec: Codec, reference: Reference, words: Words) -> None:
        self.passage = Passage(backbone.conditioner, reference, words)
        self.words, self.backbone = words, backbone
        rules = PassageRules.of(backbone, decoder.window)
        self.engine = Engine(
            decoder,
            rows=1,
            prefix_length=rules.prefix_length(self.passage),
            rules=stop_rules(backbone, codec, 30.0),
            passages=rules,
        )
        self.engine.submit(Request(self.passage, parts=(10, 25)))
        self.voice, self.cut = codec.stream(reference), SilenceCutter(backbone.silent_codes, backbone.longest_silence)
        self.seconds = 0.0
        self.farthest = 0

    def step(self) -> float:
        """Speak one column. Returns the seconds that it took, without the sound."""
        begun = time.perf_counter()
        events = self.engine.step()
        took = time.perf_counter() - begun
        for event in events:
            assert isinstance(event, Part), "the text has no end"
            self.seconds += event.codes.shape[1] / self.backbone.frame_rate
            self.voice.decode(self.cut(event.codes))
        spoken = len(self.passage.words(0, self.passage.end))  # words that are kept
        self.farthest = max(self.farthest, spoken)
        return took

    @property
    def cache_bytes(self) -> int:
        """Size of the cache."""
        rows = self.engine._state
        assert rows is not None
        return rows.cache.nbytes


def timed_moves() -> list[float]:
    """Note the seconds of every exchange of a prefix from now on."""
    taken: list[float] = []
    exchange = Rows.exchange

    def timed(rows: Rows, *given: object) -> None:
        begun = time.perf_counter()
        exchange(rows, *given)  # type: ignore[arg-type]
        taken.append(time.perf_counter() - begun)

    Rows.exchange = timed  # type: ignore[method-assign,assignment]
    return taken


def first_sounds(
    decoder: Decoder, codec: Codec, reference: Reference, words: list[str], rate: float
) -> tuple[float, float]:
    """Seconds from the first word, and from the last word that was needed, to the first sound.

    Args:
        decoder: Decoder of the student.
        codec: Its codec.
        reference: The voice.
        words: The text.
        rate: Words per second.
    """
    arrived: list[float] = []

    def arriving() -> Iterator[str]:
        begun = time.perf_counter()
        for i, word in enumerate(words):
            time.sleep(max(0.0, begun + i / rate - time.perf_counter()))
            arrived.append(time.perf_counter())
            yield word + " "

    next(stream_speech(decoder, codec, arriving(), reference, SpeakOptions()))
    now = time.perf_counter()
    return now - arrived[0], now - arrived[-1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the speech (default: 30)")
    parser.add_argument("--words_per_second", type=float, default=5.0, help="arrival of the text (default: 5)")
    arguments = parser.parse_args()
    student, settings = load_backbone_and_settings(arguments.run)
    decoder, codec = Decoder(student, student.windows(settings.window)), student.load_codec()
    reference, sentences = reference_of(VOICE, codec), sentences_of(VOICE)

    delays = first_sounds(decoder, codec, reference, " ".join(sentences).split(), arguments.words_per_second)
    moves = timed_moves()
    late = Speaker(student, decoder, codec, reference, Words(sentences))
    memory: dict[str, float] = {}
    cache: set[int] = set()
    decoding = 0.0
    total = 60 * arguments.minutes
    with progress("speaking", int(total), "seconds") as shown:
        while late.seconds < total:
            decoding += late.step()
            cache.add(late.cache_bytes)
            shown.update(int(late.seconds))
            if late.seconds >= min(120.0, total / 2) and "early" not in memory:
                memory["early"] = private_mib()
    memory["late"] = private_mib()
    share, count = sum(moves) / decoding, len(moves)
    early = Speaker(student, decoder, codec, reference, Words(sentences))
    while early.seconds < min(EARLY, total / 2):
        early.step()
    times: tuple[list[float], list[float]] = [], []
    for _ in range(STEPS):
        for one, taken in zip((late, early), times, strict=True):
            taken.append(one.step())
    ratio = statistics.median(times[0]) / statistics.median(times[1])
    lines = [
        ["length of the speech", f"{late.seconds / 60:.1f} min, {late.words.read} words read"],
        ["sizes of the cache", ", ".join(f"{size / 2**20:.2f} MiB" for size in sorted(cache))],
        ["growth of the process's memory since minute 2", f"{memory['late'] - memory['early']:.1f} MiB"],
        ["largest number of words kept", str(late.farthest)],
        ["time of a step, late / early (median)", f"{ratio:.3f}"],
        ["moves, share of the decode", f"{count}, {100 * share:.1f} %"],
        [
            f"first sound, text at {arguments.words_per_second:g} words a second",
            f"{delays[0]:.2f} s after the first word, {delays[1]:.2f} s after the last word that was needed",
        ],
    ]
    print(markdown(["measure", "value"], lines))


if __name__ == "__main__":
    main()
