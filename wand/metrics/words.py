"""Error rates of transcripts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor
from torchmetrics import Metric

from wand.recognition.base import Recogniser
from wand.text.front_end import plain_words


def errors(heard: str, text: str) -> tuple[int, int, int, int]:
    """Wrong letters, letters, wrong words and words of one sentence.

    Wrong letters (words) are the edit distance between both texts after `wand.text.front_end.plain_words`.

    Raises:
        ValueError: If the text has no words.
    """
    heard, text = plain_words(heard), plain_words(text)
    if not text:
        raise ValueError("the text has no words: error rates need a text with at least one word")
    words = text.split()
    return Levenshtein.distance(heard, text), len(text), Levenshtein.distance(heard.split(), words), len(words)


def errors_by_part(heard: str, parts: Sequence[str]) -> list[tuple[int, int]]:
    """Wrong letters and letters of each part of a long text that was transcribed as a whole.

    The whole text is aligned once, along a shortest edit path. An inserted letter counts for the part before it.

    Args:
        heard: The transcript of the whole text.
        parts: The parts of the text, in order; each has words.
    """
    plain = [plain_words(part) for part in parts]
    # The part of each letter of the text; the space between two parts belongs to the first part.
    part_of = [i for i, part in enumerate(plain) for _ in range(len(part) + (i + 1 < len(plain)))]
    wrong = [0] * len(parts)
    for edit in Levenshtein.editops(" ".join(plain), plain_words(heard)):
        place = edit.src_pos - (edit.tag == "insert")  # an insertion is before `src_pos`
        wrong[part_of[max(place, 0)]] += 1
    return [(count, part_of.count(i)) for i, count in enumerate(wrong)]


class ErrorRates(Metric):
    """CER and WER of speech: all wrong letters (words) of the transcripts divided by all letters (words) of the texts.

    Args:
        recogniser: Transcribes the speech (see `wand.recognition.open_recogniser`).
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
        """Add audio ``[N]`` and the text of each."""
        for heard, text in zip(self.recogniser.transcribe(sounds, sample_rate), texts, strict=True):
            counts = errors(heard, text)
            for name, count in zip(("wrong_letters", "letters", "wrong_words", "words"), counts, strict=True):
                setattr(self, name, getattr(self, name) + count)

    def compute(self) -> dict[str, Tensor]:
        """The rates ``cer`` and ``wer``. They exceed 1 if a transcript has more errors than the text has letters."""
        return {"cer": self.wrong_letters / self.letters, "wer": self.wrong_words / self.words}
