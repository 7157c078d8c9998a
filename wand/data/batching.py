"""Which utterances make a batch, in which order: a pure function of lengths, seed and epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from zlib import crc32

from wand.columns import ColumnLayout
from wand.conditioning import ConditionedBatch, Conditioner, make_batch
from wand.data.shards import Example
from wand.distillation import IGNORE

# Utterances are sorted by length within pools of this many batches, so that batches are even and epochs differ.
POOL_BATCHES = 32


def plan_epoch(lengths: Sequence[int], batch_size: int, seed: int, epoch: int, shuffle: bool = True) -> list[list[int]]:
    """Batches of utterance indices; every utterance once, those of a batch of similar length.

    Args:
        lengths: Columns of every utterance.
        batch_size: Utterances a batch; the last one may be smaller.
        seed: Of the order.
        epoch: Every epoch has its own order.
        shuffle: False sorts by length throughout, the same in every epoch.
    """
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    if shuffle:
        rng.shuffle(order)
    pool = batch_size * POOL_BATCHES if shuffle else max(1, len(order))
    batches = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda i: (lengths[i], i))
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    if shuffle:
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
        batch_size: Utterances a step and rank.
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
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.examples = examples
        self.conditioner = conditioner
        self.layout = layout
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.lengths = [self.conditioner.length(e.conditioning) + e.codes.shape[1] for e in examples]
        self.epoch = 0
        self.given = 0
        self._restored = False

    def __len__(self) -> int:
        return len(self._plan(0))

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

    def progress(self) -> dict[str, int]:
        """Where the loader stands: epoch, and batches given in it."""
        return {"epoch": self.epoch, "given": self.given, **self._identity()}

    def resume(self, state: dict[str, int]) -> None:
        """Continue from a `progress`.

        Raises:
            ValueError: If the corpus, its seed or the batches are others than those of the saved run.
        """
        own = self._identity()
        saved = {name: state.get(name) for name in own}
        if saved != own:
            raise ValueError(
                f"the run's batches were others (seed, utterances a step, digest of lengths: {tuple(saved.values())}, "
                f"now {tuple(own.values())}): resume with the run's own data and data settings"
            )
        self.epoch, self.given = state["epoch"], state["given"]
        self._restored = True

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "step": self.batch_size * self.world,
            "lengths": crc32(repr(self.lengths).encode()),
        }

    def _plan(self, epoch: int) -> list[list[int]]:
        return plan_epoch(self.lengths, self.batch_size * self.world, self.seed, epoch, self.shuffle)
