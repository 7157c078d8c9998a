"""The voices of prepared utterances, for codecs whose codes do not contain the voice."""

from __future__ import annotations

from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.data.example import Example
from wand.data.sources.source import SPLITS, SpeechSource
from wand.data.sources.teacher_samples import TeacherSamples
from wand.data.validate import read_sound
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

    def __call__(self, example: Example) -> Reference | None:
        """The voice of an example's reference; None if the codes contain the voice."""
        if self.codec is None or not self.codec.needs_reference or example.reference is None:
            return None
        if example.reference not in self._voices:
            by_id = {u.id: u for split in SPLITS for u in self.source.utterances(split)}
            # For TeacherSamples, the source gives the audio of the prompt under the id of the text.
            named = example.id if isinstance(self.source, TeacherSamples) else example.reference
            rate = self.codec.sample_rate
            audio = read_sound(self.source, by_id[named], rate)
            self._voices[example.reference] = read_voice(self.codec, audio, rate)
        return self._voices[example.reference]
