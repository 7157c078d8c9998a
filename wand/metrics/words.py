"""Error rates of what a recogniser heard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.text import char_error_rate, word_error_rate

from wand.recognition.base import Recogniser
from wand.text import plain_words


def errors(heard: str, text: str) -> tuple[int, int, int, int]:
    """Wrong letters, letters, wrong words, words of one sentence (edit distance; both made plain first).

    Raises:
        ValueError: If the text has no words.
    """
    heard, text = plain_words(heard), plain_words(text)
    if not text:
        raise ValueError("the text has no words: error rates need something that was to be said")
    letters, words = len(text), len(text.split())
    wrong_letters = round(float(char_error_rate(heard, text)) * letters)
    return wrong_letters, letters, round(float(word_error_rate(heard, text)) * words), words


def errors_by_part(heard: str, parts: Sequence[str]) -> list[tuple[int, int]]:
    """Wrong letters and letters of every part of a long text, heard in one go.

    The whole is aligned once (a shortest edit path); what was added counts for the part it follows.

    Args:
        heard: What was heard of all of it.
        parts: The text, in order; every part has words.
    """
    plain = [plain_words(part) for part in parts]
    text, heard = " ".join(plain), plain_words(heard)
    # The part of every letter of the text; the space between two parts belongs to the first.
    part_of = [i for i, part in enumerate(plain) for _ in range(len(part) + (i + 1 < len(plain)))]
    wrong = [0] * len(parts)
    for i in _edits(heard, text):
        wrong[part_of[max(0, min(i, len(text) - 1))]] += 1
    return [(count, part_of.count(i)) for i, count in enumerate(wrong)]


def _edits(heard: str, text: str) -> list[int]:
    """Where in `text` each edit of a shortest path falls; an added letter falls on the one before it."""
    rows = [list(range(len(heard) + 1))]
    for i, letter in enumerate(text, start=1):
        row, above = [i], rows[-1]
        for j, other in enumerate(heard, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other)))
        rows.append(row)
    places = []
    i, j = len(text), len(heard)
    while i > 0 or j > 0:
        # Among equals, what was left out comes last: speech that ends early is wrong at its end.
        if i > 0 and rows[i][j] == rows[i - 1][j] + 1:
            places.append(i - 1)
            i -= 1
        elif i > 0 and j > 0 and rows[i][j] == rows[i - 1][j - 1] + (text[i - 1] != heard[j - 1]):
            if text[i - 1] != heard[j - 1]:
                places.append(i - 1)
            i, j = i - 1, j - 1
        else:
            places.append(i - 1)
            j -= 1
    return places


class ErrorRates(Metric):
    """CER and WER of speech, by a recogniser: all wrong letters (words) over all letters (words).

    Args:
        recogniser: Who listens; see `wand.recognition.open_recogniser`.
    """

    is_differentiable = False
    full_state_update = False
    wrong_letters: Tensor
    letters: Tensor
    wrong_words: Tensor
    words: Tensor

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.recogniser = recogniser
        for name in ("wrong_letters", "letters", "wrong_words", "words"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sounds: Sequence[Tensor], sample_rate: int, texts: Sequence[str]) -> None:
        """Take sounds ``[N]`` in, and what they were to say."""
        for heard, text in zip(self.recogniser.transcribe(sounds, sample_rate), texts, strict=True):
            counts = errors(heard, text)
            for name, count in zip(("wrong_letters", "letters", "wrong_words", "words"), counts, strict=True):
                setattr(self, name, getattr(self, name) + count)

    def compute(self) -> dict[str, Tensor]:
        """``cer`` and ``wer``; above 1 where more was added than there was to say."""
        return {"cer": self.wrong_letters / self.letters, "wer": self.wrong_words / self.words}
