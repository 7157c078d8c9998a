"""Joins the lines of a long text to paragraphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wand.text.sentences import CLOSING

MARKS = ".…!?。！？:;,"


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """The paragraphs of a text, each on one line with a blank at its end. Blank lines end a paragraph.

    A paragraph without a mark at its end, such as a heading, gets a full stop, so that a pause follows.
    """
    own: list[str] = []
    for line in lines:
        if line.strip():
            own.append(line.strip())
        elif own:
            yield _joined(own)
            own = []
    if own:
        yield _joined(own)


def _joined(lines: list[str]) -> str:
    text = " ".join(lines)
    ends = text.rstrip(CLOSING)[-1:] in MARKS
    return f"{text} " if ends else f"{text}. "
