"""The transcript of a long text, aligned with the whole text once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from rapidfuzz.distance import Levenshtein, Opcode
from torch import Tensor

from wand.text.plain_words import has_blanks, plain_words

# A part of the text is missing if fewer of its letters are found.
FOUND = 0.5
# In a skip or an insertion, so few equal letters are equal by chance.
CHANCE = 2


@dataclass(frozen=True, slots=True)
class Run:
    """Letters in a row that only the text or only the transcript has.

    Args:
        symbols: Number of these letters and blanks.
        text: What stands there, with the letters that are equal by chance.
        part: The part of the text in which it begins; None if there is no such run.
    """

    symbols: int = 0
    text: str = ""
    part: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Edits:
    """A shortest edit path from a text to its transcript.

    Args:
        text: Plain words of the text, L letters and blanks.
        heard: Plain words of the transcript.
        path: The stretches of the path.
        part_of: The part of each letter, ``[L]``. A blank belongs to the part before it.
        parts: Number of parts.
        language: Language of both.
    """

    text: str
    heard: str
    path: tuple[Opcode, ...]
    part_of: Tensor
    parts: int
    language: str

    def by_part(self) -> list[tuple[int, int]]:
        """Wrong letters and letters of each part. An inserted letter counts for the letter before it."""
        return self._by(self.part_of, self.parts)

    def by_third(self) -> list[tuple[int, int]]:
        """Wrong letters and letters of each third of the text. Thirds have the same number of words."""
        if has_blanks(self.language):
            blanks = torch.tensor([letter == " " for letter in self.text])
            word_of = blanks.cumsum(0) - blanks.long()
        else:
            word_of = torch.arange(len(self.text))
        return self._by(word_of * 3 // (int(word_of[-1]) + 1), 3)

    def missing(self) -> list[int]:
        """The parts of which less than half is found. A part without words is never missing."""
        found = torch.zeros(len(self.text), dtype=torch.long)
        for step in self.path:
            if step.tag == "equal":
                found[step.src_start : step.src_end] = 1
        by_part = self._sums(self.part_of, self.parts, found)
        letters = self._sums(self.part_of, self.parts, torch.ones_like(found))
        return [i for i in range(self.parts) if by_part[i] < FOUND * letters[i]]

    def longest_skip(self) -> Run:
        """The longest stretch of text that was not spoken."""
        return self._longest("delete")

    def longest_insertion(self) -> Run:
        """The longest stretch of speech that is not in the text: a loop, or babble."""
        return self._longest("insert")

    def _by(self, group_of: Tensor, groups: int) -> list[tuple[int, int]]:
        wrong = torch.zeros(len(self.text), dtype=torch.long)
        for step in self.path:
            if step.tag == "insert":
                wrong[max(step.src_start - 1, 0)] += step.dest_end - step.dest_start
            elif step.tag != "equal":
                wrong[step.src_start : step.src_end] += 1
        sums = (self._sums(group_of, groups, values) for values in (wrong, torch.ones_like(wrong)))
        return list(zip(*sums, strict=True))

    @staticmethod
    def _sums(group_of: Tensor, groups: int, values: Tensor) -> list[int]:
        sums: list[int] = torch.zeros(groups, dtype=torch.long).index_add(0, group_of, values).tolist()
        return sums

    def _longest(self, tag: Literal["delete", "insert"]) -> Run:
        best, first, count = Run(), self.path[0], 0
        for step in self.path:
            size = max(step.src_end - step.src_start, step.dest_end - step.dest_start)
            if step.tag != tag:
                count = count if size <= CHANCE else 0
                continue
            first = first if count else step
            count += size
            if count > best.symbols:
                place = first.src_start if tag == "delete" else max(first.src_start - 1, 0)
                source = (
                    self.text[first.src_start : step.src_end]
                    if tag == "delete"
                    else self.heard[first.dest_start : step.dest_end]
                )
                best = Run(count, source, int(self.part_of[place]))
        return best


def edits(heard: str, parts: Sequence[str], language: str = "en") -> Edits:
    """Align the transcript of a whole text with all its parts together.

    Letters are compared after `wand.text.plain_words.plain_words`. Half an hour of speech takes less than a second.

    Args:
        heard: The transcript of the whole text.
        parts: The parts of the text, in order, such as its sentences. Some may have no words.
        language: Language of both (``en``, ``zh``).

    Raises:
        ValueError: If no part has words.
    """
    text, part_of = _letters_of_parts(parts, language)
    if not text:
        raise ValueError("the text has no words: error rates need a text with at least one word")
    heard = plain_words(heard, language)
    path = tuple(Levenshtein.opcodes(text, heard))
    return Edits(text, heard, path, torch.tensor(part_of), len(parts), language)


def parts_by_time(words: Sequence[str], times: Sequence[float], seconds: float = 10.0) -> list[str]:
    """The text of every ten seconds of speech.

    Args:
        words: The words of the text as they are written, in order.
        times: When each word begins, in seconds.
        seconds: Length of a part.

    Returns:
        Parts for `edits`; a part in which no word begins is empty.
    """
    places = [int(time / seconds) for time in times]
    parts: list[list[str]] = [[] for _ in range(max(places, default=-1) + 1)]
    last = 0
    for word, place in zip(words, places, strict=True):
        last = max(last, place)  # the order of the text wins over a time that is too early
        parts[last].append(word)
    return [" ".join(part) for part in parts]


def _letters_of_parts(parts: Sequence[str], language: str) -> tuple[str, list[int]]:
    """The plain words of the whole text, and the part of each letter. A blank belongs to the part before it."""
    blank = " " if has_blanks(language) else ""
    plain = {i: words for i, part in enumerate(parts) if (words := plain_words(part, language))}
    joined = blank.join(plain.values())
    single = [i for i, words in plain.items() for _ in words + blank][: len(joined)]
    text = plain_words(" ".join(parts), language)
    if text == joined:
        return text, single
    # A number at the end of a part and one at the beginning of the next have become one number.
    part_of: list[int] = []
    for edit in Levenshtein.opcodes(joined, text):
        last = max(edit.src_start, edit.src_end - 1)
        part_of += [
            single[min(edit.src_start + k, last, len(single) - 1)] for k in range(edit.dest_end - edit.dest_start)
        ]
    return text, part_of
