"""Error rates of transcripts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor
from torchmetrics import Metric

from wand.recognition.base import Recogniser
from wand.text.plain_words import has_blanks, plain_words


def errors(heard: str, text: str, language: str = "en") -> tuple[int, int, int, int]:
    """Wrong letters, letters, wrong words and words of one sentence.

    Wrong letters (words) are the edit distance between both texts after `wand.text.plain_words.plain_words`. Languages
    without blanks between words have only letters: their numbers of words are 0.

    Args:
        heard: The transcript.
        text: The text.
        language: Language of both (``en``, ``zh``).

    Raises:
        ValueError: If the text has no words.
    """
    heard, text = plain_words(heard, language), plain_words(text, language)
    if not text:
        raise ValueError("the text has no words: error rates need a text with at least one word")
    if not has_blanks(language):
        return Levenshtein.distance(heard, text), len(text), 0, 0
    words = text.split()
    return Levenshtein.distance(heard, text), len(text), Levenshtein.distance(heard.split(), words), len(words)


class ErrorRates(Metric):
    """CER and WER of speech: all wrong letters (words) of the transcripts divided by all letters (words) of the texts.

    Texts without words are skipped; the attribute `skipped` counts them.

    Args:
        recogniser: Transcribes the speech (see `wand.recognition.open_recogniser`).
    """

    is_differentiable = False
    full_state_update = False
    wrong_letters: Tensor
    letters: Tensor
    wrong_words: Tensor
    words: Tensor
    skipped: Tensor

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.recogniser = recogniser
        for name in ("wrong_letters", "letters", "wrong_words", "words", "skipped"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sounds: Sequence[Tensor], sample_rate: int, texts: Sequence[str]) -> None:
        """Add audio ``[N]`` and the text of each."""
        language = self.recogniser.language
        judged = [(sound, text) for sound, text in zip(sounds, texts, strict=True) if plain_words(text, language)]
        self.skipped = self.skipped + len(texts) - len(judged)
        transcripts = self.recogniser.transcribe([sound for sound, _ in judged], sample_rate)
        for heard, (_, text) in zip(transcripts, judged, strict=True):
            counts = errors(heard, text, language)
            for name, count in zip(("wrong_letters", "letters", "wrong_words", "words"), counts, strict=True):
                setattr(self, name, getattr(self, name) + count)

    def compute(self) -> dict[str, Tensor]:
        """The rates ``cer`` and ``wer``. They exceed 1 if a transcript has more errors than the text has letters.

        ``wer`` is NaN for languages without blanks between words.
        """
        return {"cer": self.wrong_letters / self.letters, "wer": self.wrong_words / self.words}
