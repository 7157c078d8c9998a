"""Takes and transcripts on disk: what is there is neither spoken nor transcribed again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.voice.sentences import Line
from benchmarks.voice.stages import Stage
from wand.console.progress import progress
from wand.files.audio import read_audio, write_audio
from wand.files.writing import write_text
from wand.recognition import Recogniser

# Number of sentences that are spoken, and that are transcribed, before they are written.
SPOKEN, HEARD = 32, 8


class Takes:
    """The takes of one stage, and what every ear has heard in them.

    Args:
        folder: Folder of the takes.
        stage: The stage.
        sentences: Digest of the list of sentences.

    Raises:
        ValueError: If the folder has takes that were made of something else.
    """

    def __init__(self, folder: Path, stage: Stage, sentences: str) -> None:
        self.folder = folder
        self.stage = stage
        made_of, file = f"sentences {sentences}, {stage.made_of}\n", folder / "made-of.txt"
        if file.is_file() and (there := file.read_text(encoding="utf-8")) != made_of:
            raise ValueError(
                f"{folder} has takes of other systems ({there.strip()}, not {made_of.strip()}): give another --out"
            )
        write_text(file, made_of)

    def speak(self, lines: Sequence[Line], originals: Takes | None) -> None:
        """Speak the sentences that have not been spoken.

        Args:
            lines: The sentences.
            originals: The takes of the original speech; None if these are they.
        """
        missing = sorted((line for line in lines if not self._file(line).is_file()), key=lambda line: len(line.text))
        with progress(f"{self.folder}", len(missing), "sentences") as shown:
            for part in _parts(missing, SPOKEN):
                rate = self.stage.sample_rate
                sounds = [] if originals is None else [originals.sound(line, rate) for line in part]
                for line, sound in zip(part, self.stage.speak(part, sounds), strict=True):
                    # A system that stops at once has no samples, and an empty sound file cannot be read.
                    write_audio(self._file(line), sound if len(sound) else torch.zeros(1), rate)
                shown.advance(len(part))

    def sound(self, line: Line, sample_rate: int | None = None) -> Tensor:
        """The take of a sentence, float32 ``[N]``."""
        return read_audio(self._file(line), sample_rate or self.stage.sample_rate)

    def heard(self, lines: Sequence[Line], ear: Recogniser) -> list[str]:
        """What an ear hears in the takes of some sentences, one text per sentence."""
        file = self.folder / f"heard-by-{ear.name.replace('/', '-')}.json"
        texts: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        missing = [line for line in lines if line.name not in texts]
        with progress(f"{self.folder}, {ear.name}", len(missing), "sentences") as shown:
            for part in _parts(missing, HEARD):
                sounds = [self.sound(line) for line in part]
                texts |= zip((line.name for line in part), ear.transcribe(sounds, self.stage.sample_rate), strict=True)
                write_text(file, json.dumps(texts, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
                shown.advance(len(part))
        return [texts[line.name] for line in lines]

    def _file(self, line: Line) -> Path:
        return self.folder / f"{line.name}.flac"


def _parts(lines: Sequence[Line], size: int) -> list[Sequence[Line]]:
    return [lines[i : i + size] for i in range(0, len(lines), size)]
