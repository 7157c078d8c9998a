"""The voices of prepared utterances, for codecs whose codes do not contain the voice."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.data.example import Example
from wand.data.sources.source import SPLITS, CodedSource, SpeechSource, Utterance
from wand.data.sources.teacher_samples import TeacherSamples
from wand.data.validate import read_sound
from wand.speech.speaking import decode
from wand.speech.voices import read_voice


class ReferenceVoices:
    """Gives the voice of an example. Each voice is read once.

    Args:
        source: The corpus of the examples.
        codec: The model's codec; None if no audio is made.
    """

    def __init__(self, source: SpeechSource, codec: Codec | None) -> None:
        self.source = source
        self.codec = codec
        self._voices: dict[str, Reference] = {}
        self._sounds: dict[str, Tensor | None] = {}

    def __call__(self, example: Example) -> Reference | None:
        """The voice of an example's reference; None if the codes contain the voice."""
        if self.codec is None or not self.codec.needs_reference or example.reference is None:
            return None
        if example.reference not in self._voices:
            rate = self.codec.sample_rate
            audio = read_sound(self.source, self._utterance(example, example.reference), rate)
            self._voices[example.reference] = read_voice(self.codec, audio, rate)
        return self._voices[example.reference]

    def sound(self, example: Example) -> Tensor | None:
        """The sound of an example's reference at the codec's sample rate, ``[N]``; None if it is not known.

        A corpus of codes gives the sound of the codes. The model may use only a part of it.
        """
        name = example.reference
        if self.codec is None or name is None:
            return None
        if name not in self._sounds:
            self._sounds[name] = self._read(self.codec, self._utterance(example, name))
        return self._sounds[name]

    def _read(self, codec: Codec, utterance: Utterance) -> Tensor | None:
        if not (isinstance(self.source, CodedSource) and self.source.coded):
            return read_sound(self.source, utterance, codec.sample_rate)
        if codec.needs_reference or codec.needs_latents:
            return None
        return decode(codec, self.source.codes(utterance).codes)

    def _utterance(self, example: Example, reference: str) -> Utterance:
        # For TeacherSamples, the source gives the audio of the prompt under the id of the text.
        return self._by_id[example.id if isinstance(self.source, TeacherSamples) else reference]

    @cached_property
    def _by_id(self) -> dict[str, Utterance]:
        return {utterance.id: utterance for split in SPLITS for utterance in self.source.utterances(split)}
