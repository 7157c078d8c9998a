"""Which utterances make a batch, in which order: a pure function of lengths, seed and epoch.

A batch is padded on both sides of the boundary, to its longest prefix and to its longest speech. Utterances are put
into buckets by both lengths, once for a run; every epoch draws the batches of each bucket anew. Their number is that of
every other epoch, so that the steps of a run are known before it begins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from wand.columns import ColumnLayout
from wand.conditioning import ConditionedBatch, Conditioner, make_batch
from wand.data.shards import Example
from wand.distillation import IGNORE

# A bucket that would waste no more on padding is not divided: the fewer buckets, the more batches can be drawn.
PADDING = 0.07


class Length(NamedTuple):
    """Columns of an utterance, or of the longest on each side of the boundary.

    Args:
        prefix: Columns of the conditioning.
        speech: Columns of the speech.
    """

    prefix: int
    speech: int


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """How much a rank takes at a step, at most.

    Args:
        utterances: Rows.
        columns: Prefix and speech of all rows, padding included; None has no bound.
    """

    utterances: int
    columns: int | None = None

    def rows(self, longest: Length) -> int:
        """Rows of a batch that is padded to some lengths; one, however long it is."""
        if self.columns is None:
            return self.utterances
        return max(1, min(self.utterances, self.columns // sum(longest)))


@dataclass(frozen=True, slots=True)
class Bucket:
    """Utterances of similar lengths, of which batches are drawn.

    Args:
        indices: The utterances.
        longest: Of them, on each side.
        batches: Of all ranks together, as even as can be.
    """

    indices: tuple[int, ...]
    longest: Length
    batches: int

    def cut(self, order: Sequence[int]) -> list[list[int]]:
        """The utterances in some order as batches."""
        ends = [len(order) * i // self.batches for i in range(self.batches + 1)]
        return [list(order[start:end]) for start, end in pairwise(ends)]

    def rows(self, world: int) -> int:
        """Rows of a rank in the largest batch."""
        return -(-len(self.indices) // (self.batches * world))


def longest_of(lengths: Sequence[Length]) -> Length:
    """The longest prefix and the longest speech."""
    return Length(max(length.prefix for length in lengths), max(length.speech for length in lengths))


def padding_share(lengths: Sequence[Length]) -> float:
    """Share of padding where all are padded to the longest on each side."""
    return 1 - sum(map(sum, lengths)) / (len(lengths) * sum(longest_of(lengths)))


def make_buckets(lengths: Sequence[Length], bounds: BatchBounds, world: int = 1) -> list[Bucket]:
    """Halve the utterances, by the side on which they differ more, until padding is small or a half is no batch.

    Args:
        lengths: Of every utterance.
        bounds: What a rank takes.
        world: Number of ranks.
    """
    buckets: list[Bucket] = []

    def divide(indices: list[int]) -> None:
        own = [lengths[i] for i in indices]
        longest = longest_of(own)
        step = bounds.rows(longest) * world
        # Whole batches go to the first half, so that only the last bucket ends in a smaller one.
        half = -(-len(indices) // (2 * step)) * step
        if half >= len(indices) or padding_share(own) <= PADDING:
            buckets.append(Bucket(tuple(indices), longest, -(-len(indices) // step)))
            return
        spread = [max(side) - min(side) for side in zip(*own, strict=True)]
        side = spread.index(max(spread))
        indices = sorted(indices, key=lambda i: (lengths[i][side], i))
        divide(indices[:half])
        divide(indices[half:])

    if lengths:
        divide(list(range(len(lengths))))
    return buckets


def plan_epoch(buckets: Sequence[Bucket], seed: int, epoch: int, shuffle: bool = True) -> list[list[int]]:
    """Batches of utterance indices, for all ranks together; every utterance once.

    Args:
        buckets: Of `make_buckets`.
        seed: Of the order.
        epoch: Every epoch has its own order.
        shuffle: False goes through the buckets as they are, the same in every epoch.
    """
    if not shuffle:
        return [batch for bucket in buckets for batch in bucket.cut(bucket.indices)]
    rng = random.Random(f"{seed}/{epoch}")
    batches = [batch for bucket in buckets for batch in bucket.cut(rng.sample(bucket.indices, len(bucket.indices)))]
    rng.shuffle(batches)
    return batches


class BatchLoader:
    """An iterable of `ConditionedBatch` whose place can be saved and restored in the middle of an epoch.

    Every rank takes its share of each global batch (rank r the utterances r, r + world, ...), so that n processes with
    `batch_size` see the same utterances at a step as one process with n times as many. Where a batch cannot give every
    rank an utterance, the ranks left over repeat one without its labels: all do the same number of steps, and nothing
    counts twice.

    Args:
        examples: All utterances of the split.
        conditioner: The backbone's.
        layout: The backbone's.
        bounds: Of a step and rank.
        seed: Of the order.
        shuffle: Whether the order changes by epoch.
        rank: Of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        conditioner: Conditioner,
        layout: ColumnLayout,
        bounds: BatchBounds,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.examples = examples
        self.conditioner = conditioner
        self.layout = layout
        self.bounds = bounds
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.lengths = [
            Length(conditioner.length(e.conditioning), layout.columns_of(e.codes.shape[1])) for e in examples
        ]
        self.buckets = make_buckets(self.lengths, bounds, world)
        self.epoch = 0
        self.given = 0
        self._restored = False

    def __len__(self) -> int:
        return sum(bucket.batches for bucket in self.buckets)

    def __iter__(self) -> Iterator[ConditionedBatch]:
        if self.given > 0 and not self._restored:
            # The last epoch was left early.
            self.epoch, self.given = self.epoch + 1, 0
        self._restored = False
        plan = self._plan(self.epoch)
        for index in range(self.given, len(plan)):
            # Nobody asks again after the last batch: with it, the next epoch begins.
            last = index + 1 == len(plan)
            self.epoch, self.given = (self.epoch + 1, 0) if last else (self.epoch, index + 1)
            yield self.collate(plan[index])

    def collate(self, indices: Sequence[int]) -> ConditionedBatch:
        """This rank's share of one global batch."""
        share = indices[self.rank :: self.world]
        chosen = [self.examples[i] for i in share or indices[:1]]
        batch = make_batch(self.conditioner, self.layout, [e.conditioning for e in chosen], [e.codes for e in chosen])
        if not share:
            batch.labels.fill_(IGNORE)
        return batch

    def largest(self) -> tuple[int, Length]:
        """Rows of the largest batch that a rank may be given in any epoch, and what they are padded to."""
        shapes = [(bucket.rows(self.world), bucket.longest) for bucket in self.buckets]
        return max(shapes, key=lambda shape: shape[0] * sum(shape[1]))

    def padding(self) -> float:
        """Share of the columns of all ranks that is padding, in the first epoch."""
        shares = [batch[rank :: self.world] for batch in self._plan(0) for rank in range(self.world)]
        padded = sum(len(share) * sum(longest_of([self.lengths[i] for i in share])) for share in shares if share)
        return 1 - sum(map(sum, self.lengths)) / padded

    def progress(self) -> dict[str, int]:
        """Where the loader stands: epoch, and batches given in it."""
        return {"epoch": self.epoch, "given": self.given, **self._identity()}

    def resume(self, state: dict[str, int]) -> None:
        """Continue from a `progress`.

        Raises:
            ValueError: If the corpus, its seed or the batches are others than those of the saved run.
        """
        changed = [
            f"{name} {state.get(name)}, now {own}" for name, own in self._identity().items() if state.get(name) != own
        ]
        if changed:
            raise ValueError(
                f"the run's batches were others ({'; '.join(changed)}): "
                f"resume with the run's own data and data settings"
            )
        self.epoch, self.given = state["epoch"], state["given"]
        self._restored = True

    def _identity(self) -> dict[str, int]:
        """What the plan is made of; ranks matter only where each has its own bound of columns."""
        columns = self.bounds.columns
        return {
            "seed": self.seed,
            "utterances a step": self.bounds.utterances * self.world,
            "columns a step and rank": columns or 0,
            "ranks": 0 if columns is None else self.world,
            "digest of lengths": crc32(repr([tuple(length) for length in self.lengths]).encode()),
        }

    def _plan(self, epoch: int) -> list[list[int]]:
        return plan_epoch(self.buckets, self.seed, epoch, self.shuffle)
