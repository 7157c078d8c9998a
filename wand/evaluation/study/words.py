"""When the words of the takes are spoken."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Self

from torch import Tensor

from wand.alignment.times import TimedWord
from wand.alignment.words import word_times
from wand.codecs import Codec
from wand.evaluation.kept import KeptBySound
from wand.evaluation.study.sentences import Sentence
from wand.evaluation.study.systems import STUDENT, Speaker, Speakers
from wand.passages.rules import reason_against_passages
from wand.speech.speaking import words_in_sound
from wand.speech.voices import read_voice


class WordReader:
    """Finds the words of takes. One model reads those of all systems, so that their times can be compared.

    Args:
        speaker: The system that reads.
        codec: Its codec.
    """

    def __init__(self, speaker: Speaker, codec: Codec) -> None:
        self.speaker = speaker
        self.codec = codec
        self._voice = KeptBySound(partial(read_voice, codec))

    @classmethod
    def of(cls, speakers: Speakers) -> Self | None:
        """The first student whose alignment heads are known; None if there is none."""
        for speaker in speakers.systems:
            if speaker.system.kind == STUDENT and reason_against_passages(speaker.model, speaker.window) is None:
                return cls(speaker, speakers.codec)
        return None

    @property
    def made_of(self) -> str:
        """What determines the times of words, beside the takes, as a text."""
        heads = ", ".join(f"({head.layer}, {head.head})" for head in self.speaker.model.alignment_heads)
        return f"{self.speaker.system.name}, alignment heads {heads}"

    def __call__(self, sentence: Sentence, codes: Tensor) -> tuple[TimedWord, ...]:
        """The words of a take that are reached.

        Args:
            sentence: What is said.
            codes: The take, ``[K, F]``.

        Returns:
            The words, with their times in the sound; none if nothing is said, or the sound of the voice is not known.
        """
        voice, model = sentence.voice, self.speaker.model
        if voice is None and sentence.reference is not None:
            voice = self._voice(sentence.reference, self.codec.sample_rate)
        if voice is None or not codes.shape[1]:
            return ()
        voice = replace(voice, speaker=voice.speaker or sentence.example.speaker)
        words = word_times(model, self.speaker.window, sentence.example.text, voice, codes.cpu())
        return words_in_sound(words, model, codes.cpu())
