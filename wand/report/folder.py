"""The folder of a report while it is made: sounds and pictures that the page refers to."""

from __future__ import annotations

import io
import re
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from wand.evaluation.pictures import spectrogram
from wand.files.audio import read_audio, read_header
from wand.files.writing import write_bytes
from wand.report.listening import Sentence, Sound

PAGE, SOUNDS, PICTURES = "index.html", "sounds", "pictures"
# What a window of the desktop leaves in a folder that was looked at.
LEFT_BY_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")
# How a page says that it is a report, so that it may be replaced by a newer one.
MARK = '<meta name="generator" content="wand report'

# Decibels below the peak that are black.
RANGE = 80.0
# Rows of a picture, and its columns at most. Of the values that fall into one pixel the loudest is shown.
ROWS, COLUMNS = 128, 1200


@dataclass(frozen=True)
class Player:
    """A sound of the page.

    Args:
        system: Name of the system.
        kind: Kind of the system.
        src: The sound file, relative to the page.
        seconds: Its duration.
        picture: Its spectrogram, relative to the page; None without one.
        width: Width of the spectrogram as a percentage, so that all sounds of a sentence have one time scale.
        top: Highest frequency of the spectrogram, in kHz.
        heard: What the recogniser heard; None if it did not listen.
        wrong: The errors in it, in words; None if it did not listen.
        is_main: Whether it is shown at once.
    """

    system: str
    kind: str
    src: str
    seconds: float
    picture: str | None
    width: float
    top: float
    heard: str | None
    wrong: str | None
    is_main: bool


@dataclass(frozen=True)
class Playable:
    """A sentence of the page.

    Args:
        id: Id of the sentence.
        text: Its text.
        speaker: The voice; empty if it is not known.
        players: Its sounds.
    """

    id: str
    text: str
    speaker: str
    players: Sequence[Player]


class ReportFolder:
    """Copies sounds and draws pictures into the folder of a report.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._draws: bool | None = None

    def add(self, sentence: Sentence, stem: str) -> Playable:
        """Add the sounds of a sentence.

        Args:
            sentence: The sentence.
            stem: Begin of the names of its files.
        """
        lengths = [_seconds(sound.file) for sound in sentence.sounds]
        players = [
            self._player(sound, f"{stem}-{i}-{_plain(sound.system)}", seconds, max(lengths))
            for i, (sound, seconds) in enumerate(zip(sentence.sounds, lengths, strict=True))
        ]
        return Playable(sentence.id, sentence.text, sentence.speaker, players)

    def add_picture(self, file: Path, stem: str) -> str:
        """Copy a picture and give its name relative to the page."""
        return self._copy(file, f"{PICTURES}/{stem}{file.suffix}")

    def _player(self, sound: Sound, stem: str, seconds: float, longest: float) -> Player:
        rate = read_header(sound.file).rate
        return Player(
            sound.system,
            sound.kind,
            self._copy(sound.file, f"{SOUNDS}/{stem}{sound.file.suffix}"),
            seconds,
            self._picture(sound.file, rate, f"{PICTURES}/{stem}.png"),
            round(100 * seconds / longest, 2) if longest else 100.0,
            rate / 2000,
            sound.heard,
            sound.wrong,
            sound.is_main,
        )

    def _picture(self, file: Path, rate: int, name: str) -> str | None:
        if self._draws is None:
            self._draws = can_draw()
        content = draw_spectrogram(read_audio(file, rate), rate) if self._draws else None
        if content is None:
            return None
        write_bytes(self.folder / name, content)
        return name

    def _copy(self, file: Path, name: str) -> str:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        return name


def _seconds(file: Path) -> float:
    return read_header(file).seconds or 0.0


def _plain(name: str) -> str:
    """A name as part of a file name that needs no escapes in an address."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:40]


def draw_spectrogram(audio: Tensor, sample_rate: int) -> bytes | None:
    """Draw a spectrogram without axes, as PNG: frequencies from 0 to half the sample rate, 100 columns per second.

    Long sounds have fewer columns.

    Args:
        audio: Audio ``[N]``.
        sample_rate: Its sample rate, in Hz.

    Returns:
        The PNG, or None if the audio is too short for a frame.
    """
    if len(audio) <= 512:
        return None
    from matplotlib.image import imsave

    decibels = spectrogram(audio, sample_rate)
    size = (ROWS, min(COLUMNS, decibels.shape[1]))
    loudest = torch.nn.functional.adaptive_max_pool2d(decibels[None], size)[0]
    top = float(loudest.max())
    content = io.BytesIO()
    imsave(content, loudest.numpy(), cmap="magma", vmin=top - RANGE, vmax=top, origin="lower", format="png")
    return content.getvalue()


def can_draw() -> bool:
    """Whether pictures can be drawn; else this warns how."""
    if find_spec("matplotlib") is None:
        warnings.warn('spectrograms need matplotlib: pip install "wand-tts[plots]"', stacklevel=2)
        return False
    return True
