"""A corpus of ten thousand utterances: what stays in memory, and that each is read once, whatever the ranks."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_batching import CONDITIONER, LAYOUT, as_lists, learned, loader, slow_buckets, slow_plan
from wand.codecs.reference import Reference
from wand.data.batching import BatchBounds, BatchLoader, Length, plan_epoch
from wand.data.example import Example
from wand.data.shards import ShardedExamples, write_shard

SHARDS, PER_SHARD = 40, 256
COUNT = SHARDS * PER_SHARD


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Shards with the same utterances; their lengths differ within a shard."""
    folder = tmp_path_factory.mktemp("many")
    voice = Reference(torch.zeros(1, 2, dtype=torch.long))
    made = [
        Example(str(i), "a", "s", CONDITIONER("a" * (1 + i % 13), voice), torch.full((1, 1 + 37 * i % 300), i))
        for i in range(PER_SHARD)
    ]
    files = [folder / f"train-{i:05d}.safetensors" for i in range(SHARDS)]
    write_shard(files[0], made, "ours", CONDITIONER.length)
    for file in files[1:]:
        shutil.copyfile(files[0], file)
    return files


def opened(files: list[Path], rank: int = 0, world: int = 1) -> BatchLoader:
    examples = ShardedExamples(files, "ours")
    return BatchLoader(
        examples, examples.lengths(LAYOUT), CONDITIONER, LAYOUT, BatchBounds(16), seed=3, rank=rank, world=world
    )


def held() -> tuple[int, int]:
    """Number of objects and bytes that were made since tracing began and still exist."""
    gc.collect()
    traces = tracemalloc.take_snapshot().traces
    return len(traces), sum(trace.size for trace in traces)


def test_no_python_object_is_kept_for_an_utterance(files):
    """Two numbers of each are in arrays, and its place in a bucket; the rest is per shard."""
    assert opened(files[:1]).examples[0].id == "0"  # what is cached once for all
    tracemalloc.start()
    try:
        batches = opened(files)
        objects, size = held()
        assert objects < COUNT / 10
        assert size < 25 * COUNT
        rows = np.random.default_rng(0).integers(COUNT, size=1000)  # an array: a list of numbers would count
        for i in map(int, rows):
            assert batches.examples[i].id == str(i % PER_SHARD)
        after, size_after = held()
        assert after < objects + len(rows) / 2
        assert size_after < size + 2**15
    finally:
        tracemalloc.stop()


def test_the_plan_of_shards_is_that_of_the_definition(files):
    batches = opened(files, world=2)
    lengths = [Length(*pair) for pair in batches.lengths.tolist()]
    truth = [
        Length(CONDITIONER.length(e.conditioning), LAYOUT.columns_of(e.codes.shape[1]))
        for e in batches.examples[:PER_SHARD]
    ]
    assert lengths == truth * SHARDS
    for epoch in (0, 1):
        plan = as_lists(plan_epoch(batches.buckets, 3, epoch))
        assert plan == slow_plan(slow_buckets(lengths, BatchBounds(16), 2), 3, epoch, True)
        assert sorted(i for batch in plan for i in batch) == list(range(COUNT))


# Ranks whose number changes at every restart, with six utterances a step.
restarts = st.lists(st.tuples(st.sampled_from([1, 2, 3, 6]), st.integers(0, 4)), min_size=1, max_size=4)


def run_ranks(batches: list[BatchLoader], steps: int) -> tuple[list[int], dict[str, int]]:
    """What some ranks read in a number of steps or up to the end of the epoch, and where they all stand then."""
    read: list[int] = []
    taken = [iter(one) for one in batches]
    epoch, given = batches[0].epoch, batches[0].given
    for _ in range(min(steps, len(batches[0]) - given)):
        for one in taken:
            read += learned(next(one))
    places = [one.progress() for one in batches]
    assert places == [places[0]] * len(batches)
    assert places[0]["epoch"] in (epoch, epoch + 1)
    return read, places[0]


@settings(max_examples=40)
@given(st.integers(1, 40), restarts, st.integers(0, 2), st.booleans())
def test_every_utterance_once_however_often_the_ranks_change(count, restarts, seed, shuffle):
    """In the first epoch and in the second; the truth is the set of all utterances."""
    read: list[int] = []
    place: dict[str, int] | None = None
    for world, steps in [*restarts, (2, count)]:
        ranks = [loader(count, 6 // world, seed=seed, shuffle=shuffle, rank=rank, world=world) for rank in range(world)]
        for one in ranks:
            if place is not None:
                one.resume(place)
        if ranks[0].epoch == 1:
            break
        own, place = run_ranks(ranks, steps)
        read += own
    assert sorted(read) == list(range(count))
    ranks = [loader(count, 2, seed=seed, shuffle=shuffle, rank=rank, world=3) for rank in range(3)]
    for one in ranks:
        one.resume(place)
    assert sorted(run_ranks(ranks, count)[0]) == list(range(count))


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 4), st.integers(20, 60))
def test_every_utterance_once_with_a_bound_of_columns(count, world, steps, columns):
    ranks = [[loader(count, 8, columns=columns, rank=rank, world=world) for rank in range(world)] for _ in range(2)]
    before, place = run_ranks(ranks[0], steps)
    if place["epoch"] == 0:
        for one in ranks[1]:
            one.resume(place)
        before += run_ranks(ranks[1], count)[0]
    assert sorted(before) == list(range(count))


def test_what_cannot_go_on_says_what_to_set():
    place = loader(batch_size=4).progress()
    with pytest.raises(ValueError, match=r"a step 4, now 8\): data.batch_size times the number of processes must be 4"):
        loader(batch_size=4, world=2).resume(place)
    place = loader(batch_size=4, columns=100, world=3).progress()
    with pytest.raises(ValueError, match=r"ranks 3, now 2\): with data.columns_per_batch, resume on 3 processes"):
        loader(batch_size=6, columns=100, world=2).resume(place)
