"""Words with their times in seconds, as JSON, SRT or WebVTT."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

from wand.files.writing import check_writable, write_text
from wand.model.backbone import Backbone
from wand.passages.follower import SpokenWord
from wand.text.sentences import SENTENCE_END, ends_sentence
from wand.text.words import is_wide

# Largest cue of subtitles. A letter of a script without blanks is as wide as two others.
LINE, LINES, SECONDS = 42, 2, 6.0
# The shortest cue, in seconds. Programs refuse those without a length.
SHORTEST = 0.1


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and when it is heard.

    Args:
        text: The word as it is written, with its punctuation.
        begin: Begin, in seconds.
        end: End, in seconds. A pause after a word belongs to it.
    """

    text: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Cue:
    """Words that are shown at the same time.

    Args:
        lines: The lines of text.
        begin: Begin, in seconds.
        end: End, in seconds.
    """

    lines: tuple[str, ...]
    begin: float
    end: float


def timed_words(words: Iterable[SpokenWord], backbone: Backbone, left_out: Sequence[int] = ()) -> list[TimedWord]:
    """The times of words. With a delay of the codebooks, column c begins the frame c, so the delay does not count.

    Args:
        words: Words, with their speech columns.
        backbone: The model that spoke them.
        left_out: The frames that are not in the sound, in order (`wand.speech.silence`).
    """
    per_frame = backbone.layout.columns_per_frame

    def seconds(column: int) -> float:
        frame = column / per_frame
        return (frame - bisect_left(left_out, frame)) / backbone.frame_rate

    return [TimedWord(word.text, seconds(word.begin), seconds(word.end)) for word in words]


def write_words(path: str | Path, words: Sequence[TimedWord]) -> None:
    """Write words in the format that the name of the file asks for: ``.json``, ``.srt`` or ``.vtt``.

    Args:
        path: File to write.
        words: The words, in order.

    Raises:
        ValueError: If the name ends otherwise, or the file cannot be written.
    """
    write_text(path, _writer(path)(words))


def check_words_file(path: str | Path) -> None:
    """Check that `write_words` can write a file.

    Raises:
        ValueError: If it cannot.
    """
    _writer(path)
    check_writable(path)


def _writer(path: str | Path) -> Callable[[Sequence[TimedWord]], str]:
    writers = {".json": to_json, ".srt": to_srt, ".vtt": to_vtt}
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"{path}: the times of words are written as {', '.join(writers)}: give such a name")
    return writers[suffix]


def to_json(words: Sequence[TimedWord]) -> str:
    """``{"words": [{"text": ..., "begin": ..., "end": ...}, ...]}``, in seconds."""
    values = [{"text": word.text, "begin": round(word.begin, 3), "end": round(word.end, 3)} for word in words]
    return json.dumps({"words": values}, ensure_ascii=False, indent=1) + "\n"


def to_srt(words: Sequence[TimedWord]) -> str:
    """Subtitles in SubRip's format."""
    blocks = [f"{number}\n{_lines(cue, ',')}" for number, cue in enumerate(cues(words), start=1)]
    return "\n".join(blocks)


def to_vtt(words: Sequence[TimedWord]) -> str:
    """Subtitles as WebVTT."""
    escaped = (replace(cue, lines=tuple(map(_escape, cue.lines))) for cue in cues(words))
    return "\n".join(["WEBVTT\n", *(_lines(cue, ".") for cue in escaped)])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cues(words: Sequence[TimedWord]) -> Iterator[Cue]:
    """Group words into cues. A cue ends with a sentence, or before the word with which it would be too long."""
    group: list[TimedWord] = []
    for word, after in zip(words, [*(word.text for word in words[1:]), ""], strict=False):
        if group and (len(_wrapped([*group, word])) > LINES or word.end - group[0].begin > SECONDS):
            yield _cue(group)
            group = []
        group.append(word)
        if _ends_sentence(word.text, after):
            yield _cue(group)
            group = []
    if group:
        yield _cue(group)


def _ends_sentence(word: str, following: str) -> bool:
    text = f"{word} {following}"
    return any(end.end() == len(word) and ends_sentence(text, end) for end in SENTENCE_END.finditer(text))


def _cue(group: Sequence[TimedWord]) -> Cue:
    begin = group[0].begin
    return Cue(tuple(_wrapped(group)), begin, max(group[-1].end, begin + SHORTEST))


def _wrapped(group: Sequence[TimedWord]) -> list[str]:
    """The lines of some words. No blank stands between two letters of a script without blanks."""
    if any(is_wide(word.text) for word in group):
        text = "".join(word.text if is_wide(word.text) else f" {word.text} " for word in group)
        return wrap(" ".join(text.split()), LINE // 2)
    return wrap(" ".join(word.text for word in group), LINE, break_long_words=False, break_on_hyphens=False)


def _lines(cue: Cue, mark: str) -> str:
    return "\n".join([f"{_clock(cue.begin, mark)} --> {_clock(cue.end, mark)}", *cue.lines, ""])


def _clock(seconds: float, mark: str) -> str:
    """``01:02:03.456``, with another mark before the milliseconds."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}{mark}{milliseconds:03}"
