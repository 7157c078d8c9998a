"""The voices of a server, by name."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from wand.codecs.reference import Reference
from wand.files.audio import WRITTEN, check_duration
from wand.files.text import read_text
from wand.files.writing import write_bytes
from wand.model.backbone import Backbone
from wand.model.text_tokens import PassageConditioner
from wand.speech.synthesizer import Synthesizer
from wand.speech.voices import SAVED

log = logging.getLogger("wand.serving")
# Names of voices that are uploaded. They are names of files, too.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class VoiceExists(ValueError):
    """Raised for a new voice whose name is that of another one."""


class Voices(Mapping[str, Reference]):
    """Voices by name. They are read when the server starts. One that cannot be used is left out with a warning.

    Args:
        synthesizer: The model that speaks with them.
        folder: Folder of sound files and saved voices. The name of a voice is that of its file, without the suffix. A
            text file of the same name is the transcript of a sound file.
    """

    def __init__(self, synthesizer: Synthesizer, folder: Path) -> None:
        self._synthesizer, self.folder = synthesizer, folder
        self._known: dict[str, Reference] = {}
        # A saved voice comes before the sound file that it was made of.
        for path in sorted(self._files(), key=lambda path: (path.stem, path.suffix != SAVED)):
            if path.stem in self._known:
                continue
            try:
                voice = synthesizer.read_voice(path, _transcript(path))
                voice_columns(synthesizer.backbone, voice)
            except ValueError as error:
                log.warning("the voice %s is left out: %s", path.stem, error)
            else:
                self._known[path.stem] = voice

    def __getitem__(self, name: str) -> Reference:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.suffix.lower() in (SAVED, *WRITTEN)]

    def add(
        self, name: str, sound: bytes, suffix: str, text: str | None, seconds: float, columns: int | None = None
    ) -> None:
        """Add a voice, and save it in the folder. Must not be called by two threads at the same time.

        Args:
            name: Its name: letters, digits, ``_`` and ``-``.
            sound: Content of a sound file.
            suffix: Suffix of the sound file.
            text: Transcript of the sound, if known.
            seconds: Longest sound that is taken.
            columns: Most prefix columns that the voice may take; None is no limit.

        Raises:
            VoiceExists: If there is a voice, or a file of a voice that was left out, with this name.
            ValueError: If the name or the sound cannot be used.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"name {name[:80]!r}: a voice is named with up to 64 letters A-Z, digits, _ and -")
        file = self.folder / f"{name}{SAVED}"
        # On some systems, names that differ in case only are one file.
        if name in self._known or file.exists() or name in {path.stem for path in self._files()}:
            raise VoiceExists(f"there is a voice {name!r} already: choose another name")
        if suffix.lower() not in WRITTEN:
            raise ValueError(f"the file of a voice is one of {', '.join(WRITTEN)}, not {suffix[:20]!r}")
        with tempfile.TemporaryDirectory() as scratch:
            given = Path(scratch) / f"voice{suffix.lower()}"
            write_bytes(given, sound)
            try:
                check_duration(given, seconds)
                reference = self._synthesizer.read_voice(given, text)
                needed = voice_columns(self._synthesizer.backbone, reference)
            except ValueError as error:
                raise ValueError(str(error).replace(str(given), "the sound")) from error
        if columns is not None and needed > columns:
            raise ValueError(
                f"the voice takes {needed} columns of the prefix, and this server has {columns} for a voice: cut the "
                f"sound, or save it in the folder of voices and start the server again"
            )
        self._synthesizer.save_voice(file, reference)
        self._known = {**self._known, name: reference}  # other threads read the voices


def voice_columns(backbone: Backbone, voice: Reference) -> int:
    """Number of prefix columns that a voice takes, without the text.

    Raises:
        ValueError: If the model cannot speak with it.
    """
    conditioner = backbone.conditioner
    if isinstance(conditioner, PassageConditioner):
        with suppress(ValueError):  # a prompt that names the text more than once
            return conditioner.length(conditioner.with_tokens([0], voice)) - 1
    return conditioner.length(conditioner("a", voice)) - 1


def _transcript(path: Path) -> str | None:
    file = path.with_suffix(".txt")
    return read_text(file).strip() if path.suffix != SAVED and file.is_file() else None
