"""The utterances of every batch and their order, as a pure function of lengths, seed and epoch.

A batch is padded to its longest prefix and to its longest speech. Utterances are sorted into buckets by both lengths
once per run, and every epoch draws new batches from each bucket. Every epoch has the same number of batches, so the
number of steps of a run is known before it begins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch

from wand.data.example import Example
from wand.data.prefetch import prefetch
from wand.distillation.losses import IGNORE
from wand.model.batch import ConditionedBatch, Conditioner, make_batch
from wand.model.columns import ColumnLayout

# A bucket with at most this share of padding is not divided further: fewer buckets allow more different batches.
PADDING = 0.07
# Number of batches that are collated in advance.
AHEAD = 2

Indices = npt.NDArray[np.int32]
"""Indices of utterances, ``[N]``."""


class Length(NamedTuple):
    """The number of prefix and speech columns of an utterance, or the largest of each in several utterances.

    Args:
        prefix: Columns of the conditioning.
        speech: Columns of the speech.
    """

    prefix: int
    speech: int


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """The largest batch of a rank at a step.

    Args:
        utterances: Largest number of rows.
        columns: Largest number of prefix and speech columns of all rows, padding included; None sets no limit.
    """

    utterances: int
    columns: int | None = None

    def rows(self, longest: Length) -> int:
        """Largest number of rows for a batch that is padded to these lengths; at least one."""
        if self.columns is None:
            return self.utterances
        return max(1, min(self.utterances, self.columns // sum(longest)))


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Utterances of similar lengths, from which batches are drawn.

    Args:
        indices: The utterances.
        longest: The longest prefix and the longest speech among them.
        batches: Number of batches, for all ranks together. Their sizes differ by at most one.
    """

    indices: Indices
    longest: Length
    batches: int

    def cut(self, order: Indices) -> list[Indices]:
        """Cut the utterances, in the given order, into batches."""
        ends = [len(order) * i // self.batches for i in range(self.batches + 1)]
        return [order[start:end] for start, end in pairwise(ends)]

    def rows(self, world: int) -> int:
        """Number of rows per rank in the largest batch."""
        return -(-len(self.indices) // (self.batches * world))


def longest_of(lengths: npt.NDArray[np.integer]) -> Length:
    """The longest prefix and the longest speech in lengths ``[N, 2]``."""
    prefix, speech = lengths.max(axis=0).tolist()
    return Length(prefix, speech)


def padding_share(lengths: npt.NDArray[np.integer]) -> float:
    """Share of padding if all utterances are padded to the longest prefix and the longest speech."""
    return 1 - int(lengths.sum(dtype=np.int64)) / (len(lengths) * sum(longest_of(lengths)))


def make_buckets(lengths: npt.ArrayLike, bounds: BatchBounds, world: int = 1) -> list[Bucket]:
    """Halve the utterances, by the length in which they differ more, until padding is small or a half is below a batch.

    Args:
        lengths: Prefix and speech columns of every utterance, ``[N, 2]``.
        bounds: The largest batch of a rank.
        world: Number of ranks.
    """
    columns = np.asarray(lengths)
    buckets: list[Bucket] = []

    def divide(indices: Indices) -> None:
        own = columns[indices]
        longest = longest_of(own)
        step = bounds.rows(longest) * world
        # The first half gets whole batches, so that only the last bucket can end with a smaller batch.
        half = -(-len(indices) // (2 * step)) * step
        if half >= len(indices) or padding_share(own) <= PADDING:
            buckets.append(Bucket(indices, longest, -(-len(indices) // step)))
            return
        side = int(np.ptp(own, axis=0).argmax())
        del own  # the halves need the memory
        indices = indices[np.lexsort((indices, columns[indices, side]))]
        divide(indices[:half])
        divide(indices[half:])

    if len(columns):
        divide(np.arange(len(columns), dtype=np.int32))
    return buckets


def plan_epoch(buckets: Sequence[Bucket], seed: int, epoch: int, shuffle: bool = True) -> list[Indices]:
    """The batches of an epoch for all ranks together, with every utterance once.

    Args:
        buckets: The result of `make_buckets`.
        seed: Seed for the order.
        epoch: Number of the epoch. Every epoch has its own order.
        shuffle: Whether to shuffle. False keeps the order of the buckets in every epoch.
    """
    if not shuffle:
        return [batch for bucket in buckets for batch in bucket.cut(bucket.indices)]
    rng = random.Random(f"{seed}/{epoch}")
    batches: list[Indices] = []
    for bucket in buckets:
        count = len(bucket.indices)
        batches += bucket.cut(bucket.indices[np.array(rng.sample(range(count), count))])
    rng.shuffle(batches)
    return batches


def digest_of(lengths: npt.NDArray[np.integer]) -> int:
    """CRC32 of lengths ``[N, 2]``, printed as a Python list of pairs; it is computed in parts."""
    digest = crc32(b"[")
    for start in range(0, len(lengths), 2**14):
        pairs = str([tuple(pair) for pair in lengths[start : start + 2**14].tolist()])[1:-1]
        digest = crc32((", " if start else "").encode() + pairs.encode(), digest)
    return crc32(b"]", digest)


class BatchLoader:
    """An iterable of `ConditionedBatch` whose position can be saved and restored in the middle of an epoch.

    Every rank takes its share of each global batch: rank r takes the utterances r, r + world, ... So n processes with
    `batch_size` see the same utterances at a step as one process with n times that size. If a batch has fewer
    utterances than there are ranks, the remaining ranks repeat one without its labels. All ranks then do the same
    number of steps, and no utterance counts twice.

    Another thread reads and collates `AHEAD` batches in advance. The saved position counts only batches that were
    given to the caller.

    Args:
        examples: All utterances of the split.
        lengths: Prefix and speech columns of every utterance, ``[N, 2]``.
        conditioner: The backbone's conditioner.
        layout: The backbone's layout.
        bounds: The largest batch of a rank.
        seed: Seed for the order.
        shuffle: Whether every epoch has a new order.
        rank: Rank of this process.
        world: Number of processes.
        device: Device to which the batches will be copied. For a GPU, they are made in pinned memory.

    Attributes:
        taken: Number of batches that the caller takes from an epoch; all, unless it is set. The rest is left out.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        lengths: npt.NDArray[np.integer],
        conditioner: Conditioner,
        layout: ColumnLayout,
        bounds: BatchBounds,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self.examples = examples
        self.lengths = lengths
        self.conditioner = conditioner
        self.layout = layout
        self.bounds = bounds
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.device = torch.device("cpu") if device is None else device
        self.buckets = make_buckets(lengths, bounds, world)
        self.taken = len(self)
        self.epoch = 0
        self.given = 0
        self._restored = False

    def __len__(self) -> int:
        return sum(bucket.batches for bucket in self.buckets)

    def __iter__(self) -> Iterator[ConditionedBatch]:
        if self.given > 0 and (not self._restored or self.given >= self.taken):
            # The caller left the last epoch early, or its checkpoint is older than `taken`.
            self.epoch, self.given = self.epoch + 1, 0
        self._restored = False
        plan = self._plan(self.epoch)[: self.taken]
        start = self.given
        for index, batch in enumerate(prefetch(self._make, plan[start:], AHEAD), start):
            # The caller may stop after the last batch, so the next epoch begins with it.
            last = index + 1 == len(plan)
            self.epoch, self.given = (self.epoch + 1, 0) if last else (self.epoch, index + 1)
            yield batch

    def collate(self, indices: Indices) -> ConditionedBatch:
        """This rank's share of one global batch."""
        share = indices[self.rank :: self.world]
        chosen = [self.examples[i] for i in (share if len(share) else indices[:1]).tolist()]
        given = [example.conditioning for example in chosen], [example.codes for example in chosen]
        batch = make_batch(self.conditioner, self.layout, *given, ids=[example.id for example in chosen])
        if len(share) == 0:
            batch.labels.fill_(IGNORE)
            batch.ids = ()
        return batch

    def _make(self, indices: Indices) -> ConditionedBatch:
        batch = self.collate(indices)
        if self.device.type != "cuda":
            return batch
        # A new thread would otherwise pin memory through the first GPU instead of this rank's GPU.
        with torch.cuda.device(self.device):
            return batch.pin_memory()

    def largest(self) -> tuple[int, Length]:
        """Number of rows of the largest batch that a rank can get in any epoch, and the lengths it is padded to."""
        shapes = [(bucket.rows(self.world), bucket.longest) for bucket in self.buckets]
        return max(shapes, key=lambda shape: shape[0] * sum(shape[1]))

    def padding(self) -> float:
        """Share of padding in the columns of all ranks, in the first epoch."""
        shares = [batch[rank :: self.world] for batch in self._plan(0) for rank in range(self.world)]
        padded = sum(len(share) * sum(longest_of(self.lengths[share])) for share in shares if len(share))
        return 1 - int(self.lengths.sum(dtype=np.int64)) / padded

    def progress(self) -> dict[str, int]:
        """The position of the loader: the epoch and the number of batches given in it."""
        return {"epoch": self.epoch, "given": self.given, **self._identity}

    def resume(self, state: dict[str, int]) -> None:
        """Continue from a saved `progress`.

        The number of ranks may be another one, as long as a step has the same utterances.

        Raises:
            ValueError: If the corpus, the seed or the batches differ from those of the saved run.
        """
        own = self._identity
        changed = [name for name in own if state.get(name) != own[name]]
        if changed:
            differences = "; ".join(f"{name} {state.get(name)}, now {own[name]}" for name in changed)
            remedy = "resume with the run's own data and data settings"
            if changed == ["utterances a step"]:
                remedy = f"data.batch_size times the number of processes must be {state[changed[0]]} again"
            elif "ranks" in changed and state.get("ranks") and own["ranks"]:
                remedy = f"with data.columns_per_batch, resume on {state['ranks']} processes, as before"
            raise ValueError(f"the batches differ from those of the saved run ({differences}): {remedy}")
        self.epoch, self.given = state["epoch"], state["given"]
        self._restored = True

    @cached_property
    def _identity(self) -> dict[str, int]:
        """Everything that determines the batches. The number of ranks matters only with a limit on columns."""
        columns = self.bounds.columns
        return {
            "seed": self.seed,
            "utterances a step": self.bounds.utterances * self.world,
            "columns a step and rank": columns or 0,
            "ranks": 0 if columns is None else self.world,
            "digest of lengths": digest_of(self.lengths),
        }

    def _plan(self, epoch: int) -> list[Indices]:
        return plan_epoch(self.buckets, self.seed, epoch, self.shuffle)
