"""The sentences of a study: those of a test split, or those of a list."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.data.example import Example
from wand.evaluation.study.lists import Line
from wand.evaluation.voices import ReferenceVoices
from wand.files.audio import read_speech
from wand.files.contents import content_digests
from wand.model.backbone import Backbone
from wand.speech.voices import open_voice


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """A sentence to speak.

    Args:
        example: Text, conditioning, and codes of the recording; without a recording, the codes have no frames.
        voice: The voice, for codecs whose codes do not contain it.
        reference: The sound of the voice, float32 ``[N]``; None if it is not known.
    """

    example: Example
    voice: Reference | None
    reference: Tensor | None


class Sentences(ABC):
    """Sentences that are read when they are spoken.

    Attributes:
        source: What they are, in words.
        made_of: Digest of all that determines them.
        ids: Their ids.
        recorded: Whether each has a recording.
        sizes: A measure of the length of each.
        unseen: Speakers whose voices were not trained on; empty if all or none were.
    """

    source: str
    made_of: str
    ids: Sequence[str]
    recorded: Sequence[bool]
    sizes: Sequence[int]
    unseen: frozenset[str] = frozenset()

    @abstractmethod
    def read(self, place: int) -> Sentence:
        """The sentence at a place.

        Raises:
            ValueError: If it cannot be read.
        """


class PreparedSentences(Sentences):
    """The sentences of a test split.

    Args:
        source: What they are, in words.
        made_of: Digest of the prepared data.
        examples: The chosen examples.
        voices: The voices of their references.
        trained: Speakers of the training split.
    """

    def __init__(
        self, source: str, made_of: str, examples: Sequence[Example], voices: ReferenceVoices, trained: frozenset[str]
    ) -> None:
        self.source = source
        self.ids = [example.id for example in examples]
        self.made_of = _digest([made_of, *self.ids])
        self.recorded = [True] * len(examples)
        self.sizes = [example.codes.shape[1] for example in examples]
        speakers = frozenset(example.speaker for example in examples)
        self.unseen = speakers - trained if speakers & trained else frozenset()
        self._examples = examples
        self._voices = voices

    def read(self, place: int) -> Sentence:
        """The sentence at a place."""
        example = self._examples[place]
        return Sentence(example, self._voices(example), self._voices.sound(example))


class ListedSentences(Sentences):
    """The sentences of a list.

    Args:
        file: The list.
        lines: Its chosen lines.
        backbone: The model whose conditioner reads texts and voices.
        codec: Its codec.
    """

    def __init__(self, file: Path, lines: Sequence[Line], backbone: Backbone, codec: Codec) -> None:
        self.source = str(file)
        self.ids = [line.id for line in lines]
        self.recorded = [line.recording is not None for line in lines]
        self.sizes = [len(line.text) for line in lines]
        sounds = content_digests(path for line in lines for path in (line.prompt, line.recording) if path is not None)
        self.made_of = _digest(
            [(one.id, one.prompt_text, sounds[one.prompt], one.text, one.recording and sounds[one.recording])
             for one in lines]
        )  # fmt: skip
        self._lines = lines
        self._folder = file.parent
        self._backbone = backbone
        self._codec = codec

    def read(self, place: int) -> Sentence:
        """The sentence at a place.

        Raises:
            ValueError: If a sound or a text cannot be used; the message gives the file and the line.
        """
        line = self._lines[place]
        try:
            voice = open_voice(line.prompt, self._backbone, self._codec, line.prompt_text)
            conditioning = self._backbone.conditioner(line.text, voice)
            codes = self._codes(line)
        except ValueError as error:
            raise ValueError(f"{line.where}: {error}") from error
        speaker = line.prompt.relative_to(self._folder) if line.prompt.is_relative_to(self._folder) else line.prompt
        example = Example(line.id, line.text, str(speaker), conditioning, codes, str(speaker))
        return Sentence(example, voice, voice.audio)

    def _codes(self, line: Line) -> Tensor:
        if line.recording is None:
            return torch.zeros(self._backbone.layout.rows_of_codes, 0, dtype=torch.long)
        rate = self._codec.sample_rate
        return self._codec.encode(read_speech(line.recording, rate)[None, None], rate)[0].cpu()


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
