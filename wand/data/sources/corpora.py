"""Corpora of sound files: LibriTTS, LJSpeech, and their common base class."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from wand.checks import check_number, check_shares
from wand.data.sources.source import SPLITS, Utterance, split_by_name
from wand.data.sources.table import read_table
from wand.files.audio import read_header, read_speech
from wand.files.contents import content_digests
from wand.files.text import read_text


@dataclass(frozen=True, slots=True)
class Recording:
    """One utterance of a corpus.

    Args:
        utterance: Id, text and speaker.
        split: ``train``, ``validation`` or ``test``.
        path: Its sound file; None if it has none.
        place: Where the corpus lists it, for error messages.
        problem: Why it cannot be used. `FileCorpus.audio` raises this, so it is left out.
    """

    utterance: Utterance
    split: str
    path: Path | None
    place: str
    problem: str | None = None


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
            name = recording.utterance.id
            if name in found:
                raise ValueError(
                    f"{recording.place}: another utterance already has the id {name!r} ({found[name].place})"
                )
            found[name] = recording
        if not found:
            raise ValueError(f"{type(self).__name__} holds no utterance: check the path of data.source")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Digest of texts, speakers, splits, and the names and contents of all files."""
        digest = hashlib.sha256()
        for one in self.recordings.values():
            digest.update(repr((one.utterance, one.split, one.path and one.path.name, one.problem is None)).encode())
        for path, content in content_digests(self.files()).items():
            digest.update(repr((path.name, content)).encode())
        return digest.hexdigest()[:16]

    def files(self) -> list[Path]:
        """All files whose contents determine the speech."""
        return [recording.path for recording in self.recordings.values() if recording.path is not None]

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
        recording = self.recordings[utterance.id]
        if recording.problem is not None:
            raise ValueError(recording.problem)
        if recording.path is None:
            raise ValueError(f"utterance {utterance.id!r} has no sound file")
        return recording.path


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
        check_number("data.source.held_out_share", held_out_share, "[0, 1)", "it is a share")
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
                    said, problem = _read_said(path.with_name(f"{path.stem}.normalized.txt"))
                    own = split_by_name(path.stem, *shares) if split == "train" else split
                    utterance = Utterance(f"{subset}/{path.stem}", said, path.parent.parent.name)
                    found.append(Recording(utterance, own, path, str(path), problem))
        return found


def _read_said(path: Path) -> tuple[str, str | None]:
    """The text of an utterance, and why there is none."""
    try:
        return read_text(path).strip(), None
    except ValueError as error:
        return "", str(error)


class LJSpeech(FileCorpus):
    """LJSpeech in its original folder with ``metadata.csv`` and ``wavs/``, or a corpus in its format.

    A line of ``metadata.csv`` is ``id|text`` or ``id|text|normalised text``. An empty normalised text stands for the
    text itself. An id may be written as a file name (``wavs/LJ001-0001.wav``).

    Args:
        root: The folder of the corpus.
        validation_share: Share of the utterances to validate on.
        test_share: Share of the utterances to test on.
        columns: Names of the columns, if they are not those above: ``id``, ``text``, ``normalized``, ``speaker``, in
            their order in the file. Without ``speaker`` the corpus has one speaker.
    """

    def __init__(
        self,
        root: str,
        validation_share: float = 0.01,
        test_share: float = 0.01,
        columns: tuple[str, ...] | None = None,
    ) -> None:
        self.root = Path(root)
        check_shares(validation_share, test_share)
        self.shares = (validation_share, test_share)
        self.columns = columns

    def list_recordings(self) -> list[Recording]:
        """All recordings in the order of ``metadata.csv``, with the normalised text if there is one."""
        table = self.root / "metadata.csv"
        if not table.is_file():
            raise ValueError(f"no LJSpeech at {self.root}: the folder must contain metadata.csv and wavs/")
        return [
            Recording(
                Utterance(row.id, row.text, row.speaker or "lj"),
                split_by_name(row.id, *self.shares),
                self.root / "wavs" / f"{row.id}.wav",
                f"{table}, line {row.number}",
            )
            for row in read_table(table, self.columns)
        ]
