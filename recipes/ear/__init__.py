"""An independent ear: Whisper through faster-whisper, for measurements only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wand.alignment.times import TimedWord
from wand.checks import first_line
from wand.console.interrupt import raise_if_stopped
from wand.files.audio import SILENT_PEAK, resample
from wand.recognition.base import transcribing
from wand.text.characters import base_language

SAMPLE_RATE = 16_000
SHORTEST = 0.05  # seconds
# Fixed, so that figures of different days and machines can be compared. One temperature means that there is no second
# try with random words, and each sound is transcribed without the text before it.
SETTINGS: dict[str, Any] = {"beam_size": 5, "temperature": 0.0, "condition_on_previous_text": False}


class Whisper:
    """A Whisper model in the format of CTranslate2, in int8 on the CPU, with fixed settings.

    Args:
        weights: Folder of the model (``model.bin``, ``tokenizer.json``). Tables show its last part.
        device: Not used. The ear listens on the CPU, so that it hears the same on every machine.
        language: Language of the speech (``en``, ``zh``).

    Raises:
        ValueError: If faster-whisper is not installed, the folder holds no model, or the model does not know the
            language.
    """

    def __init__(self, weights: str, device: str = "cpu", language: str = "en") -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise ValueError("recipes.ear.Whisper needs faster-whisper: pip install faster-whisper") from error
        folder = Path(weights)
        if not (folder / "model.bin").is_file():  # faster-whisper would look for a model to download
            raise ValueError(f"no Whisper model at {folder}: it should be a folder with model.bin, from CTranslate2")
        try:
            self._model = WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads()
            )
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"no Whisper model can be read from {folder}: {first_line(error)}") from error
        if base_language(language) not in self._model.supported_languages:
            raise ValueError(f"the Whisper model {folder} does not know the language {language}: give another")
        self.name = folder.absolute().name
        self.language = language

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        """Transcribe one sound after the other. Silence and sounds below a twentieth of a second give an empty text."""
        with transcribing(len(sounds)) as counted:
            texts = []
            for sound in sounds:
                raise_if_stopped()
                texts.append("".join(segment.text for segment in self._hear(sound, sample_rate)).strip())
                counted.advance()
        return texts

    def words(self, sound: Tensor, sample_rate: int) -> list[TimedWord]:
        """The words of a sound ``[N]``, with their times."""
        segments = self._hear(sound, sample_rate, word_timestamps=True)
        return [TimedWord(word.word.strip(), word.start, word.end) for segment in segments for word in segment.words]

    def _hear(self, sound: Tensor, sample_rate: int, **others: Any) -> Iterable[Any]:
        """The segments of a sound."""
        sound = resample(sound.float().cpu(), sample_rate, SAMPLE_RATE)
        # In silence, Whisper hears what often stood under silence in its training: "you", "thank you".
        if len(sound) < SHORTEST * SAMPLE_RATE or float(sound.abs().max()) < SILENT_PEAK:
            return ()
        language = base_language(self.language)
        segments: Iterable[Any] = self._model.transcribe(sound.numpy(), language=language, **SETTINGS, **others)[0]
        return segments
