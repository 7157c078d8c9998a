"""`wand synthesize --book`: speak a text of any length, and write the sound while it is spoken."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from wand.alignment.times import write_words
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.interrupt import Interrupted, raise_if_stopped
from wand.console.progress import progress
from wand.decoding.decoder import Decoder
from wand.files.audio import sound_writer
from wand.files.text import read_text
from wand.passages.rules import reason_against_passages
from wand.speech.speaking import SpeakOptions
from wand.speech.streaming import stream_speech
from wand.text.paragraphs import paragraphs

STDIN = Path("-")


def check_book(book: Path) -> None:
    """Check that there is such a text.

    Raises:
        ValueError: If there is none.
    """
    if book != STDIN and not book.is_file():
        raise ValueError(f"--book {book} does not exist: give a text file, or - for standard input")


def speak_book(
    book: Path,
    out: Path,
    words: Path | None,
    decoder: Decoder,
    codec: Codec,
    reference: Reference,
    options: SpeakOptions,
) -> None:
    """Speak a text file, or standard input as it arrives.

    After an interruption or an error the sound so far is kept. The times of the words are written at the end.
    """
    text: str | Iterable[str] = _from_stdin() if book == STDIN else paragraphs(read_text(book).splitlines())
    if options.long_text not in ("auto", "passage") or reason_against_passages(decoder.backbone, decoder.window, codec):
        text = "".join(text)
    seconds, reason = 0.0, None
    stopped: Exception | Interrupted | None = None
    with sound_writer(out, codec.sample_rate) as write, progress("speaking", None, "seconds", stream=sys.stderr) as bar:
        try:
            for chunk in stream_speech(decoder, codec, text, reference, options):
                write(chunk.audio)
                seconds += len(chunk.audio) / codec.sample_rate
                reason = chunk.reason
                if words is not None and reason is not None:
                    write_words(words, chunk.words)
                bar.update(int(seconds))
                raise_if_stopped()
        except (Exception, Interrupted) as error:  # raised below, when the sound is in its place
            if not seconds and not isinstance(error, Interrupted):
                raise
            stopped = error
    if stopped is not None:
        kept = f"the first {seconds:.1f} seconds are in {out}"
        if isinstance(stopped, Interrupted):
            stopped.report = kept
        else:
            print(f"wand: {kept}", file=sys.stderr, flush=True)
        raise stopped
    print(f"{out}: {seconds:.2f} seconds, ended by {reason}", flush=True)


def _from_stdin() -> Iterator[str]:
    """What arrives on standard input, as soon as it arrives."""
    decode = codecs.getincrementaldecoder("utf-8")()
    try:
        while piece := os.read(sys.stdin.fileno(), 1 << 16):
            yield decode.decode(piece)
        yield decode.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise ValueError("standard input is not UTF-8") from error
