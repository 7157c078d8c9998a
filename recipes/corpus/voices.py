"""The voices of the open-vocabulary corpus: voices made from recordings of people, beside those of espeak-ng."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import soundfile
import soxr
import torch
from torch import Tensor

from recipes.corpus.pronunciation import ipa_phone, lexicon
from wand.text.characters import clean
from wand.text.english import spell
from wand.text.espeak import SAMPLE_RATE, Voice, phone_times, phonemes, synthesize
from wand.text.front_end import phones


@dataclass(frozen=True, slots=True)
class Spoken:
    """A spoken sentence.

    Args:
        audio: Float32 ``[N]`` at 16 kHz.
        phones: Phones in espeak-ng's notation, with their start times in seconds.
    """

    audio: Tensor
    phones: list[tuple[str, float]]


class CorpusVoice(Protocol):
    """A voice that speaks a text in American English, the same on every call."""

    @property
    def name(self) -> str:
        """Name of the speaker."""
        ...

    def speak(self, text: str) -> Spoken:
        """Speak a text."""
        ...


@dataclass(frozen=True, slots=True)
class EspeakVoice:
    """A voice of espeak-ng.

    Args:
        voice: The voice.
    """

    voice: Voice

    @property
    def name(self) -> str:
        """Name of the speaker."""
        return self.voice.name

    def speak(self, text: str) -> Spoken:
        """Speak a text."""
        words = spell(clean(text))  # espeak-ng itself would read numbers in another way than the front end
        return Spoken(synthesize(words, self.voice), phone_times(words, self.voice))


@dataclass(frozen=True, slots=True)
class FliteVoice:
    """A voice of flite, made from the recordings of a person (CMU's ARCTIC databases).

    Words are pronounced as the phones that espeak-ng gives for them, so that speech and front end agree.

    Args:
        name: Name of the speaker.
        model: Name of the voice in flite.
        stretch: Factor of all durations.
        shift: Factor of all frequencies, which makes another speaker of the voice.
    """

    name: str
    model: str
    stretch: float = 1.0
    shift: float = 1.0

    def speak(self, text: str) -> Spoken:
        """Speak a text. Raises ``ValueError`` if flite is not installed or refuses the text."""
        spoken = spell(clean(text)).lower()
        with tempfile.TemporaryDirectory() as folder:
            entries, sound = Path(folder, "lexicon"), Path(folder, "speech.wav")
            lines = (f"{word} 0 : {cmu}\n" for word, cmu in lexicon(spoken, phones(text), _isolated).items())
            entries.write_text("".join(lines), encoding="utf-8")
            stretch = f"duration_stretch={self.stretch * self.shift}"
            command = ["flite", "-voice", self.model, "-add_lex", str(entries), "--setf", stretch]
            ended = subprocess.run([*command, "-psdur", "-t", f" {spoken} ", "-o", str(sound)], capture_output=True)
            refused = b"add_addenda" in ended.stdout + ended.stderr
            if ended.returncode or refused or not sound.exists():
                raise ValueError(
                    f"flite could not speak {text!r}: {(ended.stderr + ended.stdout).decode(errors='replace')[:200]}"
                )
            audio, rate = soundfile.read(sound, dtype="float32")
        played = round(rate * self.shift)
        times = _times(ended.stdout.decode(), self.shift)
        return Spoken(torch.from_numpy(soxr.resample(audio, played, SAMPLE_RATE)).float(), times)


def _times(printed: str, shift: float) -> list[tuple[str, float]]:
    """Phones and their starts from flite's ``phone:end`` pairs."""
    times, begin = [], 0.0
    for entry in printed.split():
        phone, end = entry.rsplit(":", 1)
        times.append((ipa_phone(phone), begin))
        begin = float(end) / shift
    return times


@cache
def _isolated(word: str) -> str:
    return phonemes([word])[0]


def check_engines(voices: list[CorpusVoice]) -> None:
    """Raise ``ValueError`` if a voice needs flite and it is not installed."""
    if any(isinstance(voice, FliteVoice) for voice in voices) and shutil.which("flite") is None:
        raise ValueError("the voices made from recordings need flite: install the package `flite`")


def _voices(*voices: CorpusVoice) -> dict[str, CorpusVoice]:
    return {voice.name: voice for voice in voices}


VOICES = _voices(
    FliteVoice("robert", "rms"),
    FliteVoice("sarah", "slt"),
    FliteVoice("alan", "awb", stretch=1.1),
    FliteVoice("theo", "slt", shift=0.84),
    FliteVoice("rose", "rms", shift=1.2),
    FliteVoice("lucy", "slt", shift=1.12),
    EspeakVoice(Voice("fiona", "en-us", "f2", rate=150)),
    EspeakVoice(Voice("marcus", "en-us", "m3", rate=150)),
)
UNSEEN_VOICE: CorpusVoice = FliteVoice("unseen-una", "awb", stretch=1.1, shift=1.12)
