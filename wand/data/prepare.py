"""From a corpus to shards: speech to codes, text and references to conditioning.

Deterministic and restartable: shard i always holds the same utterances, one that exists is not made again, and a lock
lets several runs share one cache. The reference of an utterance is another one of the same speaker.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from wand.backbone import Backbone
from wand.codecs import Codec
from wand.conditioning import Conditioner, Reference
from wand.data.shards import FORMAT, Example, write_shard
from wand.data.source import SPLITS, SpeechSource, Utterance

UTTERANCES_PER_SHARD = 256


def cache_fingerprint(source: SpeechSource, conditioner: Conditioner, codec: Codec) -> str:
    """Digest of everything that determines the shards."""
    parts = (FORMAT, source.fingerprint, conditioner.fingerprint, codec.fingerprint)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ShardCache:
    """The shards of one corpus for one conditioner and codec: ``root/<fingerprint>/<split>-00000.safetensors``."""

    folder: Path
    fingerprint: str

    def shard(self, split: str, index: int) -> Path:
        """The file of one shard."""
        return self.folder / f"{split}-{index:05d}.safetensors"

    def shards(self, split: str, utterances: int) -> list[Path]:
        """All shard files of a split with that many utterances."""
        return [self.shard(split, i) for i in range(-(-utterances // UTTERANCES_PER_SHARD))]


def shard_cache(source: SpeechSource, backbone: Backbone, root: Path) -> ShardCache:
    """The cache of a corpus for a backbone, made or not."""
    fingerprint = cache_fingerprint(source, backbone.conditioner, backbone.load_codec())
    return ShardCache(root / fingerprint, fingerprint)


def prepare(
    source: SpeechSource, backbone: Backbone, root: Path, workers: int = 2, splits: Sequence[str] = SPLITS
) -> ShardCache:
    """Make all shards that are not there yet.

    Args:
        source: The corpus.
        backbone: Whose conditioner and codec to use.
        root: Where caches live.
        workers: Processes that make or read the sound and encode it; 0 does it here.
        splits: Which splits.

    Raises:
        ValueError: If the sample rates differ, a text has unknown characters, or the disk is full.
    """
    codec = backbone.load_codec()
    if source.sample_rate != codec.sample_rate:
        raise ValueError(f"the corpus is at {source.sample_rate} Hz, the codec at {codec.sample_rate} Hz")
    cache = shard_cache(source, backbone, root)
    cache.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.folder / ".lock"):
        todo = []
        for split in splits:
            utterances = source.utterances(split)
            parts = [utterances[i : i + UTTERANCES_PER_SHARD] for i in range(0, len(utterances), UTTERANCES_PER_SHARD)]
            todo += [(path, part) for path, part in zip(cache.shards(split, len(utterances)), parts, strict=True)]
        todo = [(path, part) for path, part in todo if not path.is_file()]
        if todo:
            _make_shards(todo, source, backbone.conditioner, codec, cache.fingerprint, workers)
    return cache


def _make_shards(
    todo: list[tuple[Path, list[Utterance]]],
    source: SpeechSource,
    conditioner: Conditioner,
    codec: Codec,
    fingerprint: str,
    workers: int,
) -> None:
    columns = TextColumn("[bold]preparing speech"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress, _encoders(_Encoder(source, codec), workers) as encode:
        bar = progress.add_task("", total=sum(len(part) for _, part in todo))
        for path, part in todo:
            codes = []
            for own in encode(part):
                codes.append(own)
                progress.advance(bar)
            references = choose_references(part, [own.shape[1] for own in codes])
            examples = []
            for utterance, own, (index, start) in zip(part, codes, references, strict=True):
                examples.append(_make_example(utterance, own, Reference(codes=codes[index][:, start:]), conditioner))
            write_shard(path, examples, fingerprint)


def _make_example(utterance: Utterance, codes: Tensor, reference: Reference, conditioner: Conditioner) -> Example:
    try:
        conditioning = conditioner(utterance.text, reference)
    except ValueError as error:
        raise ValueError(f"utterance {utterance.id!r} of the corpus: {error}") from error
    return Example(utterance.id, utterance.text, utterance.speaker, conditioning, codes)


def choose_references(utterances: Sequence[Utterance], frames: Sequence[int], keep: int = 110) -> list[tuple[int, int]]:
    """For every utterance another one of its speaker, and the frame where the reference begins.

    The choice depends on the utterance alone, so that a cache made again is the same. A speaker with a single
    utterance refers to it.

    Args:
        utterances: Of one shard.
        frames: Of each.
        keep: A reference begins so that at least this many frames follow, where there are so many.
    """
    by_speaker = defaultdict(list)
    for i, utterance in enumerate(utterances):
        by_speaker[utterance.speaker].append(i)
    chosen = []
    for i, utterance in enumerate(utterances):
        rng = random.Random(utterance.id)
        others = [j for j in by_speaker[utterance.speaker] if j != i] or [i]
        reference = rng.choice(others)
        chosen.append((reference, rng.randint(0, max(0, frames[reference] - keep))))
    return chosen


class _Encoder:
    """From an utterance to its codes ``[K, F]``; what the worker processes run."""

    def __init__(self, source: SpeechSource, codec: Codec) -> None:
        self.source = source
        self.codec = codec

    def __call__(self, utterance: Utterance) -> Tensor:
        return self.codec.encode(self.source.audio(utterance)[None, None], self.codec.sample_rate)[0]


_encoder: _Encoder


def _start_worker(encoder: _Encoder) -> None:
    global _encoder
    _encoder = encoder
    torch.set_num_threads(1)


def _encode(utterance: Utterance) -> np.ndarray:
    # Arrays, not tensors: those would travel through shared memory, one open file each.
    return _encoder(utterance).numpy()


@contextmanager
def _encoders(encoder: _Encoder, workers: int) -> Iterator[Callable[[Sequence[Utterance]], Iterable[Tensor]]]:
    """A function from utterances to their codes, in order, made by worker processes (or here, if there are none)."""
    if workers == 0:
        yield lambda utterances: map(encoder, utterances)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    with get_context("spawn").Pool(workers, initializer=_start_worker, initargs=(encoder,)) as pool:
        yield lambda utterances: map(torch.from_numpy, pool.imap(_encode, utterances, chunksize=8))
