"""The speech that the recogniser hears: originals of a corpus, and round trips that are made once and kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.recogniser.labels import cached_labels
from recipes.recogniser.round_trips import round_trip
from wand.codecs import EncodecCodec
from wand.console.progress import progress
from wand.data.sources.source import SpeechSource, Utterance

ORIGINAL = "original"


class Speech:
    """One split of a corpus, as the recogniser hears it.

    Args:
        source: The corpus, at 16 kHz.
        split: Split of the corpus.
        folder: Folder for labels and round trips. A run that was stopped continues where it was.
        conditions: Names of the round trips that are made (see `recipes.recogniser.round_trips.round_trip`).
        processes: Number of processes that make them.
    """

    def __init__(
        self, source: SpeechSource, split: str, folder: Path, conditions: Sequence[str], processes: int = 1
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{split}-{source.fingerprint}"
        self.source = source
        self.utterances = source.utterances(split)
        self.labels = cached_labels([u.text for u in self.utterances], folder / f"{name}-labels.jsonl")
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


class RoundTrips:
    """Round trips of utterances, as int16 in one memory-mapped file. They are made when they are missing.

    Args:
        source: The corpus.
        utterances: The utterances.
        condition: Name of the round trip.
        path: Path of the files, without suffix.
        processes: Number of processes that make them.
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
        _mapping(processes, source, condition) as mapped,
        data.open("r+b") as samples,
        index.open("a", encoding="ascii") as places,
        progress(f"round trips ({condition})", len(utterances) - done, "utterances") as counted,
    ):
        samples.truncate(2 * end)
        samples.seek(2 * end)
        for sound in mapped(utterances[done:]):
            end += len(sound)
            samples.write(sound.tobytes())
            samples.flush()
            places.write(f"{end}\n")
            places.flush()
            counted.advance()


@contextmanager
def _mapping(
    processes: int, source: SpeechSource, condition: str
) -> Iterator[Callable[[Sequence[Utterance]], Iterable[np.ndarray]]]:
    """A function that makes the round trips of utterances, in this process or in several others."""
    if processes == 1:
        codec = EncodecCodec()
        yield partial(map, partial(_make, source, condition, codec))
        return
    with get_context("spawn").Pool(processes, _start, (source, condition)) as pool:
        yield partial(pool.imap, _make_here, chunksize=8)


_worker: tuple[SpeechSource, str, EncodecCodec]


def _start(source: SpeechSource, condition: str) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = source, condition, EncodecCodec()


def _make_here(utterance: Utterance) -> np.ndarray:
    return _make(*_worker, utterance)


def _make(source: SpeechSource, condition: str, codec: EncodecCodec, utterance: Utterance) -> np.ndarray:
    rng = random.Random(f"{utterance.id}/{condition}")
    again = round_trip(source.audio(utterance).clamp(-1, 1), condition, rng, codec)
    return (again.numpy() * 32767).astype(np.int16)
