"""The speech that the recogniser hears: originals of a corpus, and round trips that are made once and kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.corpus.recorded import Recorded
from recipes.recogniser.labels import Labels, labels_of, spoken_letters, without_stress
from recipes.recogniser.round_trips import round_trip
from wand.codecs import EncodecCodec
from wand.console.progress import progress
from wand.data.encoding import in_processes
from wand.data.sources.source import SpeechSource, Utterance

ORIGINAL = "original"


class Speech:
    """One split of a corpus, as the recogniser hears it.

    Args:
        source: The corpus, at 16 kHz.
        split: Split of the corpus.
        folder: Folder for the round trips. A run that was stopped continues where it was.
        conditions: Names of the round trips that are made (see `recipes.recogniser.round_trips.round_trip`).
        processes: Number of processes that make them; 0 makes them in this one.
    """

    def __init__(
        self, source: SpeechSource, split: str, folder: Path, conditions: Sequence[str], processes: int = 0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{split}-{source.fingerprint}"
        self.source = source
        self.utterances = source.utterances(split)
        self.labels = [said(source, utterance) for utterance in self.utterances]
        self.round_trips = {
            condition: RoundTrips(source, self.utterances, condition, folder / f"{name}-{condition}", processes)
            for condition in conditions
        }

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def conditions(self) -> list[str]:
        """The original, and the round trips."""
        return [ORIGINAL, *self.round_trips]

    @property
    def samples(self) -> np.ndarray:
        """Number of samples of each utterance."""
        return np.diff(next(iter(self.round_trips.values())).ends)

    def sound(self, index: int, condition: str) -> Tensor:
        """One utterance in one of the `conditions`, float32 ``[N]``."""
        if condition == ORIGINAL:
            return self.source.audio(self.utterances[index])
        return self.round_trips[condition][index]


def said(source: SpeechSource, utterance: Utterance) -> Labels:
    """What an utterance says. Recorded speech has the phones that its voice has said; others are those of the text."""
    if not isinstance(source, Recorded):
        return labels_of(utterance.text)
    phones = source.line(utterance.id).phones
    return Labels(spoken_letters(utterance.text), [p for phone, _ in phones for p in without_stress(phone)])


def kind_of(source: SpeechSource, utterance: Utterance) -> str:
    """The kind of a sentence."""
    return source.line(utterance.id).kind if isinstance(source, Recorded) else "demo"


class RoundTrips:
    """Round trips of utterances, as int16 in one memory-mapped file. They are made when they are missing.

    Args:
        source: The corpus.
        utterances: The utterances.
        condition: Name of the round trip.
        path: Path of the files, without suffix.
        processes: Number of processes that make them; 0 makes them in this one.
    """

    def __init__(
        self, source: SpeechSource, utterances: Sequence[Utterance], condition: str, path: Path, processes: int
    ) -> None:
        data, index = path.with_name(f"{path.name}.i16"), path.with_name(f"{path.name}.ends")
        data.touch()
        index.touch()
        self.ends = _whole(index, data)
        if len(self.ends) <= len(utterances):
            _append(source, utterances, condition, data, index, self.ends, processes)
            self.ends = _whole(index, data)
        self.data = np.memmap(data, dtype=np.int16, mode="r")

    def __getitem__(self, index: int) -> Tensor:
        samples = self.data[self.ends[index] : self.ends[index + 1]]
        return torch.from_numpy(samples.astype(np.float32) / 32767.0)


def _whole(index: Path, data: Path) -> np.ndarray:
    """The ends of the utterances that were written as a whole, after a 0."""
    lines = index.read_text(encoding="ascii").splitlines(keepends=True)
    ends = np.array([0, *(int(line) for line in lines if line.endswith("\n"))])
    return ends[2 * ends <= data.stat().st_size]


def _append(
    source: SpeechSource,
    utterances: Sequence[Utterance],
    condition: str,
    data: Path,
    index: Path,
    ends: np.ndarray,
    processes: int,
) -> None:
    """Make the round trips that are missing at the end of the files."""
    done, end = len(ends) - 1, int(ends[-1])
    index.write_text("".join(f"{e}\n" for e in ends[1:]), encoding="ascii")
    with (
        in_processes(RoundTrip(source, condition), processes) as run,
        data.open("r+b") as samples,
        index.open("a", encoding="ascii") as places,
        progress(f"round trips ({condition})", len(utterances) - done, "utterances") as counted,
    ):
        samples.truncate(2 * end)
        samples.seek(2 * end)
        for sound in run(utterances[done:]):
            end += len(sound)
            samples.write(sound.tobytes())
            samples.flush()
            places.write(f"{end}\n")
            places.flush()
            counted.advance()


class RoundTrip:
    """Makes the round trip of an utterance, as int16 samples ``[N]``. Worker processes run it.

    Args:
        source: The corpus.
        condition: Name of the round trip.
    """

    def __init__(self, source: SpeechSource, condition: str) -> None:
        self._source = source
        self._condition = condition

    def __call__(self, utterance: Utterance) -> np.ndarray:
        """The samples after the round trip, the same on every call."""
        rng = random.Random(f"{utterance.id}/{self._condition}")
        again = round_trip(self._source.audio(utterance).clamp(-1, 1), self._condition, rng, self._codec)
        return (again.numpy() * 32767).astype(np.int16)

    @cached_property
    def _codec(self) -> EncodecCodec:
        return EncodecCodec()
