"""Cuts a text that arrives in pieces into units: the pieces of text that a front end reads at once."""

from __future__ import annotations

import re
from collections import deque

import regex

from wand.checks import check_whole_number
from wand.text.sentences import CLOSING, SENTENCE_END, ends_sentence, size_of
from wand.text.words import is_spoken, is_wide, split_words

# Least number of letters of a unit that ends at a pause, or at a blank if there is another.
LEAST = 20
# A unit that nowhere may be cut ends at any blank, or within a word, when it has this many times its limit.
LARGEST = 3

# The least rank of a cut at the limit, see `_rank`. Others wait for a better one.
GOOD = 2

_PAUSE = re.compile(rf"[,:–—][{re.escape(CLOSING)}]*$|[，、：]$")
_ELLIPSIS = re.compile(r"…|\.\.\.")
# Words that can be read without those around them: not a number, an abbreviation, an initial, a Roman numeral.
_LETTERS = r"(?!\p{Lu}+(?!\p{L}))\p{L}{2,}(?:['’-]\p{L}+)*|[aIAO]"
_BEFORE_CUT = regex.compile(rf"[\"'“‘(\[]*(?:{_LETTERS})[,:;\"'”’)\]]*")
_AFTER_CUT = regex.compile(rf"[\"'“‘(\[]*(?:{_LETTERS})[,:;!?\"'”’)\]]*")
_CLUSTER = regex.compile(r"\X")
# Words that are read as one with the next word, so that a unit should rather begin than end with them.
_BOUND = {
    "a", "an", "the", "this", "that", "these", "those", "my", "your", "his", "her", "its", "our", "their", "some",
    "any", "no", "every", "each", "and", "or", "but", "nor", "so", "yet", "if", "as", "than", "because", "while",
    "when", "where", "who", "which", "what", "whose", "of", "to", "in", "on", "at", "by", "for", "from", "with",
    "without", "about", "into", "onto", "upon", "over", "under", "between", "through", "after", "before", "since",
    "until", "down", "above", "below", "beside", "against", "around", "behind", "near", "toward", "towards",
    "during", "across", "along", "among", "off", "up", "out", "one", "is", "are", "was", "were", "am", "be",
    "been", "being", "has", "have", "had", "having", "do", "does", "did", "can", "could", "will", "would", "shall",
    "should", "may", "might", "must", "not", "very", "too", "more", "most", "go", "goes", "make", "makes", "i",
    "you", "he", "she", "it", "we", "they", "there",
}  # fmt: skip


class TextUnits:
    """Cuts a text into units. They depend on the text alone, never on the pieces in which it arrived.

    A unit ends at the end of a sentence, or at a pause after `LEAST` letters, or before the word with which it would
    exceed its limit. It is not cut at a number, an abbreviation or an initial, as long as there is another place.
    Joined, the units give the text. The time is linear in the text, and only text that was not given is kept.

    Args:
        first_limit: Largest number of letters in the first unit; Chinese, Japanese and Korean letters count three
            times. A unit is longer where no word may be cut off.
        limit: Largest number of letters in every other unit.

    Raises:
        ValueError: If a limit is not a positive whole number.
    """

    def __init__(self, first_limit: int = 40, limit: int = 100) -> None:
        for name, given in (("first_limit", first_limit), ("limit", limit)):
            check_whole_number(name, given, least=1)
        self._limit, self._others = first_limit, limit
        self._closed = False
        # Words that more text does not change, and the text after them.
        self._words: deque[str] = deque()
        self._rest: list[str] = []
        self._begin_unit()

    def _begin_unit(self) -> None:
        self._seen = self._size = 0  # words that were looked at, and their letters
        self._best = (0, 0)  # the best cut between them: its rank, and the number of words before it

    def add(self, text: str) -> None:
        """Take more text. It may end anywhere, also inside a word."""
        assert not self._closed, "the text is closed"
        self._rest.append(text)
        if is_spoken(text):  # else the last word may still get it
            self._split()

    def close(self) -> None:
        """Say that no more text comes."""
        self._closed = True
        self._split()

    def next(self) -> str | None:
        """The next unit, with the blanks before it. None if more text is needed, or none is left."""
        while self._seen < len(self._words):
            if count := self._look():
                return self._give(count)
        return self._give(len(self._words)) if self._closed and self._words else None

    def _split(self) -> None:
        text = "".join(self._rest)
        words = [part for word in split_words(text) if word for part in _parts(word, LARGEST * self._others)]
        self._rest = [] if self._closed else words[-1:]
        self._words.extend(words if self._closed else words[:-1])

    def _look(self) -> int:
        """Look at the next word. Returns the number of words in the unit, 0 if it goes on."""
        number, word = self._seen, " ".join(self._words[self._seen].split())
        if number:
            before = " ".join(self._words[number - 1].split())
            joined = not self._words[number][0].isspace()
            self._best = max(self._best, (_rank(before, word, joined, self._size), number))
            self._size += not joined
        self._seen += 1
        self._size += size_of(word)
        rank, cut = self._best
        if self._size > self._limit and rank >= GOOD:
            return cut
        if self._size > LARGEST * self._limit:
            return cut or max(number, 1)
        following = self._words[self._seen] if self._seen < len(self._words) else "".join(self._rest)
        return self._seen if following and _may_end(word, following, self._size) else 0

    def _give(self, count: int) -> str:
        self._limit = self._others
        self._begin_unit()
        return "".join(self._words.popleft() for _ in range(count))


def _may_end(word: str, following: str, size: int) -> bool:
    """Whether a unit of this many letters ends after a word: with its sentence, or at a pause."""
    text = f"{word}{' ' * following[0].isspace()}{following.lstrip()[:2]}"
    after = text[len(word) :].lstrip("\"')]} ")[:1]
    for end in SENTENCE_END.finditer(text):
        if end.end() <= len(word) and ends_sentence(text, end) and not (_ELLIPSIS.search(end[0]) and after.islower()):
            return True
    pause = _PAUSE.search(word)
    if pause is None or size < LEAST:
        return False
    # "March 3, 1999", "5 – 7": one number or one date.
    return not (after.isdigit() and any(letter.isdigit() for letter in word))


def _rank(before: str, after: str, joined: bool, size: int) -> int:
    """How well a unit of this many letters may be cut between two words; 0 if it may not."""
    if joined and not (is_wide(before) and is_wide(after)):
        return 0
    if not joined and not (_BEFORE_CUT.fullmatch(before) and _AFTER_CUT.fullmatch(after)):
        return 0
    ends, begins = (word.strip("\"'“”‘’()[],:;!?").lower() in _BOUND for word in (before, after))
    return 1 if ends or size < LEAST else GOOD + begins


def _parts(word: str, limit: int) -> list[str]:
    """Cut a word with too many letters, before a letter or digit. Accents stay with their letters."""
    if len(word) <= limit:
        return [word]
    parts, letters = [""], 0
    for cluster in _CLUSTER.findall(word):
        if letters >= limit and is_spoken(cluster):
            parts.append("")
            letters = 0
        parts[-1] += cluster
        letters += is_spoken(cluster)
    return parts
