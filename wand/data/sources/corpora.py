"""Corpora of sound files: LibriTTS, LJSpeech, and their common base class."""

from __future__ import annotations

import csv
import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from wand.data.sources.source import SPLITS, Utterance, split_by_name
from wand.files.audio import read_header, read_speech


@dataclass(frozen=True, slots=True)
class Recording:
    """One utterance, its split, and its sound file (None if it has none)."""

    utterance: Utterance
    split: str
    path: Path | None


class FileCorpus(ABC):
    """Base class of corpora whose utterances are sound files; a subclass lists them.

    Attributes:
        sample_rate: Sample rate of `audio`, in Hz. Files with another rate are resampled.
    """

    sample_rate: int = 24_000

    @abstractmethod
    def list_recordings(self) -> list[Recording]:
        """All recordings, always in the same order."""

    @cached_property
    def recordings(self) -> dict[str, Recording]:
        """All recordings by the id of their utterance.

        Raises:
            ValueError: If there are none, or two share an id.
        """
        found: dict[str, Recording] = {}
        for recording in self.list_recordings():
            if recording.utterance.id in found:
                raise ValueError(f"two utterances have the id {recording.utterance.id!r}: ids must be unique")
            found[recording.utterance.id] = recording
        if not found:
            raise ValueError(f"{type(self).__name__} holds no utterance: check the path of data.source")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Digest of texts, speakers, splits, file names and file sizes."""
        digest = hashlib.sha256()
        for recording in self.recordings.values():
            path = recording.path
            size = path.stat().st_size if path is not None and path.is_file() else None
            digest.update(repr((recording.utterance, recording.split, path and path.name, size)).encode())
        return digest.hexdigest()[:16]

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of one split."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return [recording.utterance for recording in self.recordings.values() if recording.split == split]

    def audio(self, utterance: Utterance) -> Tensor:
        """The audio of one utterance: float32 ``[N]`` at `sample_rate`."""
        return read_speech(self._sound_file(utterance), self.sample_rate)

    def seconds(self, utterance: Utterance) -> float | None:
        """The length of the sound file of one utterance by its header, in seconds."""
        return read_header(self._sound_file(utterance)).seconds

    def _sound_file(self, utterance: Utterance) -> Path:
        path = self.recordings[utterance.id].path
        if path is None:
            raise ValueError(f"utterance {utterance.id!r} has no sound file")
        return path


class LibriTTS(FileCorpus):
    """LibriTTS in its original folders: ``SUBSET/SPEAKER/CHAPTER/NAME.wav`` with ``NAME.normalized.txt``.

    Args:
        root: Folder that contains the subsets.
        train: Subsets to train on (paper: train-clean-100).
        validation: Subsets to validate on. If none of them exists, a share of the training utterances is held out.
        test: Subsets to test on. If none of them exists, a share of the training utterances is held out.
        held_out_share: Share of the training utterances that is held out for a split without subsets.
    """

    def __init__(
        self,
        root: str,
        train: tuple[str, ...] = ("train-clean-100",),
        validation: tuple[str, ...] = ("dev-clean",),
        test: tuple[str, ...] = ("test-clean",),
        held_out_share: float = 0.005,
    ) -> None:
        if not 0 <= held_out_share < 1:
            raise ValueError(f"data.source.held_out_share {held_out_share} is outside [0, 1): it is a share")
        self.root = Path(root)
        self.subsets = {"train": train, "validation": validation, "test": test}
        self.held_out_share = held_out_share

    def list_recordings(self) -> list[Recording]:
        """All recordings, sorted by subset, speaker and name."""
        for subset in self.subsets["train"]:
            if not (self.root / subset).is_dir():
                raise ValueError(
                    f"no LibriTTS subset at {self.root / subset}: set `root` of data.source to its parent folder"
                )
        there = {split: [s for s in names if (self.root / s).is_dir()] for split, names in self.subsets.items()}
        shares = [0.0 if there[split] else self.held_out_share for split in ("validation", "test")]
        found = []
        for split, subsets in there.items():
            for subset in subsets:
                for path in sorted((self.root / subset).glob("*/*/*.wav")):
                    text = path.with_suffix("").with_suffix(".normalized.txt")
                    said = text.read_text(encoding="utf-8").strip() if text.is_file() else ""
                    own = split_by_name(path.stem, *shares) if split == "train" else split
                    speaker = path.parent.parent.name
                    found.append(Recording(Utterance(f"{subset}/{path.stem}", said, speaker), own, path))
        return found


class LJSpeech(FileCorpus):
    """LJSpeech in its original folder with ``metadata.csv`` and ``wavs/``. It has one speaker.

    Args:
        root: The folder of the corpus.
        validation_share: Share of the utterances to validate on.
        test_share: Share of the utterances to test on.
    """

    def __init__(self, root: str, validation_share: float = 0.01, test_share: float = 0.01) -> None:
        self.root = Path(root)
        self.shares = (validation_share, test_share)

    def list_recordings(self) -> list[Recording]:
        """All recordings in the order of ``metadata.csv``, with the normalised text if there is one."""
        table = self.root / "metadata.csv"
        if not table.is_file():
            raise ValueError(f"no LJSpeech at {self.root}: the folder must contain metadata.csv and wavs/")
        with table.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE) if row]
        return [
            Recording(
                Utterance(row[0], row[-1].strip(), "lj"),
                split_by_name(row[0], *self.shares),
                self.root / "wavs" / f"{row[0]}.wav",
            )
            for row in rows
        ]
