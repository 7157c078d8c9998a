"""A text of any length as tokens, of which windows go into the prefix."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from wand.codecs.reference import Reference
from wand.model.batch import Conditioner, Conditioning
from wand.model.text_tokens import PassageConditioner
from wand.text.characters import EMPTY
from wand.text.units import TextUnits

# Largest number of tokens in a word.
LONGEST_WORD = 40


class Passage:
    """A text that is spoken in one continuous decode. It may arrive in pieces, while it is spoken.

    Tokens and words are counted from the beginning of the text. Only those that are still needed are kept, so a passage
    is spoken once. It must not be used by two threads at the same time: text is added between the steps of an engine.

    Args:
        conditioner: Conditioner of the adapter.
        reference: The voice.
        text: The whole text, or an iterator of its pieces, which is read when the speech needs them. With None, the
            pieces come by `extend`, and `close` ends the text.

    Raises:
        ValueError: If the adapter cannot cut windows of text, or the whole text is given and cannot be read.
    """

    def __init__(self, conditioner: Conditioner, reference: Reference, text: str | Iterable[str] | None = None) -> None:
        if not isinstance(conditioner, PassageConditioner):
            raise ValueError(
                f"{type(conditioner).__name__} takes whole texts only, so this model cannot speak a passage: split the "
                f"text into sentences"
            )
        self.conditioner = conditioner
        self.reference = reference
        self.closed = False
        self._taken = False
        self._units = TextUnits()
        self._pieces: Iterator[str] | None = None
        self._begun = False
        self._ids: list[int] = []
        self._first = 0  # the token that `_ids` begins with
        self._words: list[str] = []
        self._starts: list[int] = []  # first token of each word
        self._onsets: list[int] = []  # the token with which each word begins to be heard
        if isinstance(text, str):
            self.extend(text)
            self.close()
            if not self.end:
                raise ValueError(EMPTY)
        elif text is not None:
            self._pieces = iter(text)

    def take(self) -> None:
        """Note that a speech will say this passage.

        Raises:
            ValueError: If another one does.
        """
        if self._taken:
            raise ValueError("this passage belongs to another request, and its text is not kept: make a new passage")
        self._taken = True

    def extend(self, text: str) -> None:
        """Add a piece of text. It may end anywhere, also inside a word.

        Raises:
            ValueError: If the text is closed, is not a string, or has characters that the model does not know. The unit
                that has them is left out.
        """
        if self.closed:
            raise ValueError("this passage is closed: no text can be added")
        if not isinstance(text, str):
            raise ValueError(f"the text {text!r} is not a string")
        self._units.add(text)
        self._read_units()

    def close(self) -> None:
        """Say that the text is complete."""
        if not self.closed:
            self._units.close()
            self._read_units()
            self.closed = True

    def _read_units(self) -> None:
        while (unit := self._units.next()) is not None:
            text = unit if self._begun else self.conditioner.opening(self.reference) + unit
            tokens = self.conditioner.tokens(text, joined=self._begun)
            self._begun = True
            ends = (*tokens.firsts[1:], len(tokens.ids))
            for word, first, onset, after in zip(tokens.words, tokens.firsts, tokens.onsets, ends, strict=True):
                # A window may begin and end also within a word that is too long.
                pieces = range(self.end + first, self.end + after, LONGEST_WORD)
                # The word begins in one of them: many blanks can stand before it.
                own = (onset - first) // LONGEST_WORD
                self._starts += pieces
                self._onsets += [self.end + onset if i == own else piece for i, piece in enumerate(pieces)]
                self._words += [word if i == own else "" for i in range(len(pieces))]
            self._ids += tokens.ids

    @property
    def end(self) -> int:
        """Number of tokens that are known."""
        return self._first + len(self._ids)

    def word_from(self, token: int) -> int | None:
        """The first token of the first word that begins at a token or after it; the end of the text if there is none.

        It is less than `LONGEST_WORD` tokens away. Reads the iterator of pieces as far as needed. None if the text that
        has arrived does not reach so far.
        """
        while (place := bisect_left(self._starts, token)) == len(self._starts):
            if self.closed:
                return self.end
            if self._pieces is None:
                return None
            for piece in self._pieces:
                self.extend(piece)
                break
            else:
                self.close()
        return self._starts[place]

    def word_before(self, token: int) -> int:
        """The first token of the last word that begins at a token or before it."""
        return self._starts[max(bisect_right(self._starts, token) - 1, 0)]

    def is_last(self, end: int) -> bool:
        """Whether the text ends at a token."""
        return self.closed and end == self.end

    def conditioning(self, begin: int, end: int) -> Conditioning:
        """The conditioning of the tokens from `begin` to `end`."""
        assert self._first <= begin < end <= self.end
        return self.conditioner.with_tokens(self._ids[begin - self._first : end - self._first], self.reference)

    @property
    def columns_without_text(self) -> int:
        """Number of prefix columns that are not text."""
        return self.conditioner.length(self.conditioner.with_tokens([0], self.reference)) - 1

    def words(self, begin: int, end: int) -> list[tuple[str, int]]:
        """The words that begin to be heard from one token to another, each with the token with which it does."""
        own = range(bisect_left(self._onsets, begin), bisect_left(self._onsets, end))
        return [(self._words[i], self._onsets[i]) for i in own if self._words[i]]

    def forget(self, token: int) -> None:
        """Free the words before a token."""
        count = bisect_right(self._starts, token) - 1
        if count > 0:
            del self._ids[: self._starts[count] - self._first]
            self._first = self._starts[count]
            del self._words[:count], self._starts[:count], self._onsets[:count]
