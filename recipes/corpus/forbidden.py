"""The sentences that are kept for tests: no training sentence may repeat them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from wand.text.characters import clean
from wand.text.english import spell

# A training sentence has no run of this many words of an open-vocabulary test sentence.
RUN = 4


@lru_cache(maxsize=1000)
def spelled(text: str) -> str:
    """The text as it is said: numbers, abbreviations and symbols are words."""
    return spell(clean(text))


def spoken_words(text: str) -> list[str]:
    """The words of an English text as they are said, in lower case: numbers are words."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", spelled(text).lower())


class Forbidden:
    """Tells whether a sentence may be trained on. Words are compared in lower case and without punctuation.

    Args:
        whole: Sentences that may not be repeated.
        runs: Sentences of which no four words in a row may be repeated; a shorter one may not be repeated as a whole.
    """

    def __init__(self, whole: list[str], runs: list[str]) -> None:
        self._whole = {tuple(spoken_words(text)) for text in (*whole, *runs)}
        self._runs = {run for text in runs for run in _runs(spoken_words(text))}

    def allows(self, said: list[str]) -> bool:
        """Whether a sentence may be trained on, from its `spoken_words`."""
        return tuple(said) not in self._whole and self._runs.isdisjoint(_runs(said))


def read_sentences(path: Path) -> list[str]:
    """The sentences of a text file, one in a line.

    Raises:
        ValueError: If the file is missing.
    """
    if not path.is_file():
        raise ValueError(f"the corpus must not contain the test sentences in {path}, which is missing")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _runs(said: list[str]) -> set[tuple[str, ...]]:
    return {tuple(said[i : i + RUN]) for i in range(len(said) - RUN + 1)}
