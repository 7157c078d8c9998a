"""Texts as tokens that a window of text can be cut from, and the conditioners that take such windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol, Self, runtime_checkable

from wand.codecs.reference import Reference
from wand.model.batch import Conditioner, Conditioning
from wand.text.words import split_words


@dataclass(frozen=True)
class TextTokens:
    """A text as the tokens of a model.

    Args:
        ids: Ids of the N tokens.
        words: The words as they are written, with their punctuation (``25,``), for timestamps. Words that share a token
            share an entry (``of the``).
        firsts: Index of the first token of each word, strictly increasing from 0. A text window begins and ends only at
            such a place.
        onsets: Index of the token with which each word begins to be heard: its first one that is not only a blank.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]
    firsts: tuple[int, ...]
    onsets: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.words) == len(self.firsts) == len(self.onsets) <= len(self.ids)
        assert self.firsts[:1] == (0,)
        ends = (*self.firsts[1:], len(self.ids))
        assert all(first <= onset < end for first, onset, end in zip(self.firsts, self.onsets, ends, strict=True))

    @classmethod
    def of(
        cls,
        ids: Sequence[int],
        places: Sequence[tuple[int, int]],
        read: str,
        words: Sequence[str],
        begins: Sequence[int | None],
    ) -> Self:
        """Find the first token of each word. A word that begins inside a token is joined with the word before it.

        Args:
            ids: Ids of the tokens.
            places: Begin and end of each token, as indices of symbols. Tokens that are parts of one symbol share it.
            read: The symbols.
            words: The words, each with the blanks before it.
            begins: Index of the symbol that each word begins with, None if that is not known.
        """
        first_at: dict[int, int] = {}
        seen = 0
        for token, (begin, end) in enumerate(places):
            if begin >= seen:  # else it is a later part of a symbol
                first_at.setdefault(seen, token)
            seen = max(seen, end)
        joined: list[str] = []
        firsts: list[int] = []
        for word, place in zip(words, begins, strict=True):
            first = 0 if not firsts else -1 if place is None else first_at.get(place, -1)
            if not firsts or first > firsts[-1]:
                joined.append(word)
                firsts.append(first)
            else:
                joined[-1] += word
        onsets = [
            next((token for token in range(first, end) if read[slice(*places[token])].strip()), first)
            for first, end in pairwise([*firsts, len(ids)])
        ]
        return cls(tuple(ids), tuple(" ".join(word.split()) for word in joined), tuple(firsts), tuple(onsets))


def raw_tokens(text: str, ids: Sequence[int], places: Sequence[tuple[int, int]]) -> TextTokens:
    """The tokens of a text that the tokenizer reads as it is written, see `TextTokens.of`."""
    words = split_words(text)
    begins = accumulate(map(len, words[:-1]), initial=0)
    return TextTokens.of(ids, places, text, words, list(begins))


@runtime_checkable
class PassageConditioner(Conditioner, Protocol):
    """A conditioner that also takes tokens, so that the text in a prefix can be any window of a longer text."""

    def tokens(self, text: str, joined: bool = False) -> TextTokens:
        """The tokens of a unit of text.

        Args:
            text: The text, with the blanks around it.
            joined: Whether the unit follows other text of the same passage. Then a blank between the two belongs to it.

        Raises:
            ValueError: If the text is empty or has characters that the model does not know.
        """
        ...

    def opening(self, reference: Reference) -> str:
        """What stands before a passage in the prompt and belongs to its first unit: a blank or nothing."""
        ...

    def with_tokens(self, ids: Sequence[int], reference: Reference) -> Conditioning:
        """The conditioning for the ids of a text. For those of ``opening(reference) + text``, that of the text.

        Raises:
            ValueError: If the reference lacks something, or the text has no place of its own in the prompt.
        """
        ...

    def text_span(self, conditioning: Conditioning) -> tuple[int, int]:
        """The columns ``[begin, end)`` that hold the ids of the text, counted from the first column of the prefix."""
        ...


def longest_text(conditioner: Conditioner, conditionings: Iterable[Conditioning]) -> int | None:
    """Number of columns of the longest text in some prefixes; None if the conditioner does not say where it is."""
    if not isinstance(conditioner, PassageConditioner):
        return None
    spans = map(conditioner.text_span, conditionings)
    return max((end - begin for begin, end in spans), default=None)
