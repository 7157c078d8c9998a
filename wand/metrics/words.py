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
