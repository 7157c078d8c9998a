"""Which utterances are in which batch, and going on from the middle of an epoch."""

from __future__ import annotations

import math
import random
from itertools import chain, islice, pairwise
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.backbones.encodec_lm import SymbolConditioner
from wand.codecs.reference import Reference
from wand.data.batching import (
    AHEAD,
    PADDING,
    BatchBounds,
    BatchLoader,
    Bucket,
    Indices,
    Length,
    digest_of,
    make_buckets,
    plan_epoch,
)
from wand.data.example import Example
from wand.distillation.losses import IGNORE
from wand.model.batch import ConditionedBatch
from wand.model.columns import ColumnLayout

LAYOUT = ColumnLayout(1, 900, 901)
CONDITIONER = SymbolConditioner(LAYOUT, "letters", "ab ", 4)
lengths = st.lists(st.builds(Length, st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=120)
bounds = st.builds(BatchBounds, st.integers(1, 5), st.none() | st.integers(120, 400))


def corpus(count: int = 23, longer: int = 0) -> list[Example]:
    """Utterances whose codes are their own index."""
    conditioning = CONDITIONER("a", Reference(torch.zeros(1, 2, dtype=torch.long)))
    frames = [1 + (7 * i) % 11 + longer for i in range(count)]
    return [Example(str(i), "a", "s", conditioning, torch.full((1, frames[i]), i)) for i in range(count)]


def loader(
    count: int = 23, batch_size: int = 4, longer: int = 0, columns: int | None = None, **settings: int
) -> BatchLoader:
    examples = corpus(count, longer)
    lengths = np.array([[CONDITIONER.length(e.conditioning), LAYOUT.columns_of(e.codes.shape[1])] for e in examples])
    return BatchLoader(examples, lengths, CONDITIONER, LAYOUT, BatchBounds(batch_size, columns), **settings)


def learned(batch: ConditionedBatch) -> list[int]:
    """Indices of the utterances that have labels."""
    return [int(row.columns[0]) for row in rows(batch) if (row.labels != IGNORE).any()]


def rows(batch: ConditionedBatch) -> list[ConditionedBatch]:
    return [
        ConditionedBatch(
            {}, 1, batch.prefix_lengths[i : i + 1], batch.columns[i], batch.lengths[i : i + 1], label, False
        )
        for i, label in enumerate(batch.labels)
    ]


def epoch(batches: BatchLoader) -> list[list[int]]:
    return [learned(batch) for batch in batches]


def as_lists(batches: list[Indices]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


def padded(lengths: list[Length], share: list[int]) -> int:
    """Columns of a batch: rows times the longest on each side."""
    return len(share) * (max(lengths[i].prefix for i in share) + max(lengths[i].speech for i in share))


@given(lengths, bounds, st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_every_utterance_once_and_no_rank_above_its_bounds(lengths, bounds, world, seed, epoch, shuffle):
    buckets = make_buckets(lengths, bounds, world)
    plan = as_lists(plan_epoch(buckets, seed, epoch, shuffle))
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert plan == as_lists(plan_epoch(make_buckets(lengths, bounds, world), seed, epoch, shuffle))
    assert len(plan) == len(plan_epoch(buckets, seed, epoch + 1))
    for share in (batch[rank::world] for batch in plan for rank in range(world)):
        assert len(share) <= bounds.utterances
        assert not share or bounds.columns is None or padded(lengths, share) <= bounds.columns
    if bounds.columns is None:
        assert len(plan) == math.ceil(len(lengths) / (bounds.utterances * world))


@given(lengths, bounds)
def test_buckets_hold_what_they_say(lengths, bounds):
    for bucket in make_buckets(lengths, bounds):
        assert bucket.longest.prefix == max(lengths[i].prefix for i in bucket.indices)
        assert bucket.longest.speech == max(lengths[i].speech for i in bucket.indices)
        assert max(map(len, bucket.cut(bucket.indices))) == bucket.rows(world=1)


def slow_buckets(lengths: list[Length], bounds: BatchBounds, world: int) -> list[tuple[list[int], Length, int]]:
    """The definition of buckets, with one Python object per utterance: indices, longest, batches."""
    buckets = []

    def longest_of(own: list[Length]) -> Length:
        return Length(max(length.prefix for length in own), max(length.speech for length in own))

    def divide(indices: list[int]) -> None:
        own = [lengths[i] for i in indices]
        longest = longest_of(own)
        step = bounds.rows(longest) * world
        half = -(-len(indices) // (2 * step)) * step
        padding = 1 - sum(map(sum, own)) / (len(own) * sum(longest))
        if half >= len(indices) or padding <= PADDING:
            buckets.append((indices, longest, -(-len(indices) // step)))
            return
        spread = [max(side) - min(side) for side in zip(*own, strict=True)]
        side = spread.index(max(spread))
        indices = sorted(indices, key=lambda i: (lengths[i][side], i))
        divide(indices[:half])
        divide(indices[half:])

    if lengths:
        divide(list(range(len(lengths))))
    return buckets


def slow_plan(buckets: list[tuple[list[int], Length, int]], seed: int, epoch: int, shuffle: bool) -> list[list[int]]:
    """The definition of an epoch's plan over `slow_buckets`."""

    def cut(order: list[int], batches: int) -> list[list[int]]:
        ends = [len(order) * i // batches for i in range(batches + 1)]
        return [order[start:end] for start, end in pairwise(ends)]

    if not shuffle:
        return [batch for indices, _, batches in buckets for batch in cut(indices, batches)]
    rng = random.Random(f"{seed}/{epoch}")
    plan = [batch for indices, _, batches in buckets for batch in cut(rng.sample(indices, len(indices)), batches)]
    rng.shuffle(plan)
    return plan


def plain(buckets: list[Bucket]) -> list[tuple[list[int], Length, int]]:
    return [(bucket.indices.tolist(), bucket.longest, bucket.batches) for bucket in buckets]


@given(lengths, bounds, st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_buckets_and_plan_are_those_of_the_definition(lengths, bounds, world, seed, epoch, shuffle):
    buckets = make_buckets(lengths, bounds, world)
    slow = slow_buckets(lengths, bounds, world)
    assert plain(buckets) == slow
    assert as_lists(plan_epoch(buckets, seed, epoch, shuffle)) == slow_plan(slow, seed, epoch, shuffle)


@pytest.mark.parametrize("bounds", [BatchBounds(16), BatchBounds(64, 6000)], ids=["rows", "columns"])
def test_buckets_and_plan_of_a_corpus_are_those_of_the_definition(bounds):
    lengths = speech_corpus(25, 20_000)
    buckets = make_buckets(np.array(lengths, dtype=np.int32), bounds, 2)
    slow = slow_buckets(lengths, bounds, 2)
    assert len(slow) > 50
    assert plain(buckets) == slow
    assert as_lists(plan_epoch(buckets, 3, 1)) == slow_plan(slow, 3, 1, True)


def test_without_utterances_there_is_no_bucket():
    assert make_buckets(np.zeros((0, 2), dtype=np.int32), BatchBounds(4)) == []


@pytest.mark.parametrize("count", [0, 1, 2**14 - 1, 2**14, 2**14 + 1, 40_000])
def test_the_digest_in_checkpoints_is_that_of_a_printed_list(count):
    """So that runs of earlier versions go on."""
    pairs = [(i % 97, 1 + i % 1013) for i in range(count)]
    assert digest_of(np.array(pairs, dtype=np.int32).reshape(-1, 2)) == crc32(repr(pairs).encode())


def test_an_utterance_above_the_bound_is_a_batch_of_its_own():
    lengths = [Length(5, 5), Length(90, 90), Length(5, 6)]
    plan = as_lists(plan_epoch(make_buckets(lengths, BatchBounds(8, 100)), 0, 0))
    assert [1] in plan


def test_without_shuffling_every_epoch_is_the_same():
    lengths = [Length(1 + (7 * i) % 31, 1 + (37 * i) % 101) for i in range(400)]
    buckets = make_buckets(lengths, BatchBounds(8))
    plan = as_lists(plan_epoch(buckets, 0, 0, shuffle=False))
    assert plan == as_lists(plan_epoch(buckets, 1, 5, shuffle=False))


def test_epochs_and_seeds_draw_other_batches_from_the_same_buckets():
    lengths = [Length(10, 20 + i % 2) for i in range(400)]
    buckets = make_buckets(lengths, BatchBounds(8))
    plans = [as_lists(plan_epoch(buckets, seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len({str(sorted(map(sorted, plan))) for plan in plans}) == 3


def speech_corpus(frame_rate: int, count: int = 4000) -> list[Length]:
    """Lengths as LibriTTS's: 1 to 20 s, half of them below 5 s, four text tokens a second, references of 2 to 10 s."""
    rng = random.Random(0)
    made = []
    while len(made) < count:
        seconds = math.exp(rng.gauss(math.log(5), 0.7))
        if 1 <= seconds <= 20:
            text, reference = seconds * 4 * rng.uniform(0.8, 1.2), frame_rate * rng.uniform(2, 10)
            made.append(Length(round(text) + round(reference), round(seconds * frame_rate)))
    return made


@pytest.mark.parametrize("frame_rate", [25, 50])
@pytest.mark.parametrize("columns", [None, 320])
def test_little_of_a_batch_is_padding(frame_rate, columns):
    lengths = speech_corpus(frame_rate)
    bounds = BatchBounds(16) if columns is None else BatchBounds(64, columns * frame_rate)
    plan = as_lists(plan_epoch(make_buckets(lengths, bounds), 0, 0))
    real = sum(map(sum, lengths))
    assert 1 - real / sum(padded(lengths, batch) for batch in plan) <= 0.08
    if columns is not None:
        # The bound is used: what is left of it is what the last batch of a bucket lacks.
        assert real >= 0.7 * len(plan) * bounds.columns


def test_an_epoch_taken_by_its_length_is_over():
    """Lightning asks for as many batches as there are, and not once more."""
    batches = loader()
    first = [learned(batch) for batch in islice(iter(batches), len(batches))]
    second = [learned(batch) for batch in islice(iter(batches), len(batches))]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(23))
    assert first != second
    assert batches.progress()["epoch"] == 2


def test_an_epoch_left_early_is_over():
    batches = loader()
    first = [learned(batch) for batch in islice(iter(batches), 3)]
    assert [learned(batch) for batch in islice(iter(batches), 3)] != first
    assert batches.progress()["epoch"] == 1


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_ranks_together_are_the_single_process(count, batch_size, world, shuffle):
    single = epoch(loader(count, batch_size * world, shuffle=shuffle))
    shares = [epoch(loader(count, batch_size, shuffle=shuffle, rank=rank, world=world)) for rank in range(world)]
    assert {len(share) for share in shares} == {len(single)}
    for step, whole in enumerate(single):
        together = [share[step] for share in shares]
        assert sorted(chain(*together)) == sorted(whole)
        assert max(map(len, together)) <= batch_size


@given(st.integers(1, 40), st.integers(1, 4), st.integers(20, 60))
def test_ranks_with_a_bound_of_columns_share_an_epoch(count, world, columns):
    loaders = [loader(count, 8, columns=columns, rank=rank, world=world) for rank in range(world)]
    rows, longest = loaders[0].largest()
    shares = [list(one) for one in loaders]
    assert {len(share) for share in shares} == {len(loaders[0])}
    assert sorted(i for share in shares for batch in share for i in learned(batch)) == list(range(count))
    sizes = [(len(b), b.prefix_length + b.columns.shape[1]) for share in shares for b in share]
    assert all(height * width <= columns for height, width in sizes)
    assert max(height * width for height, width in sizes) <= rows * sum(longest)


def test_padding_is_that_of_the_batches():
    batches = loader(columns=60)
    taken = list(batches)
    real = sum(int(batch.prefix_lengths.sum() + batch.lengths.sum()) for batch in taken)
    made = sum(len(batch) * (batch.prefix_length + batch.columns.shape[1]) for batch in taken)
    assert batches.padding() == pytest.approx(1 - real / made)
    shared = [loader(columns=60, rank=rank, world=3).padding() for rank in range(3)]
    assert shared == [shared[0]] * 3


@given(st.integers(0, 17), st.sampled_from([None, 60]))
def test_going_on_from_anywhere(taken, columns):
    undisturbed = loader(columns=columns)
    expected = [*chain(*(epoch(undisturbed) for _ in range(4)))]
    before, after = loader(columns=columns), loader(columns=columns)
    seen: list[list[int]] = []
    while len(seen) < taken:
        for batch in before:
            seen.append(learned(batch))
            if len(seen) == taken:
                break
    after.resume(before.progress())
    while len(seen) < len(expected):
        seen += epoch(after)
    assert seen == expected


@given(st.integers(0, 10), st.integers(1, 5), st.booleans())
def test_going_on_from_anywhere_in_epochs_that_are_cut(given, taken, older):
    """A checkpoint of an older version has the end of a cut epoch as its place, not the next epoch."""
    undisturbed, before, after = loader(), loader(), loader()
    undisturbed.taken = before.taken = after.taken = taken
    expected = [*chain(*(epoch(undisturbed) for _ in range(12)))]
    assert len(expected) == 12 * taken
    seen: list[list[int]] = []
    while len(seen) < given:
        seen += [learned(batch) for batch in islice(before, min(taken, given - len(seen)))]
    place = before.progress()
    if older and place["epoch"] > 0 and place["given"] == 0:
        place |= {"epoch": place["epoch"] - 1, "given": taken}
    after.resume(place)
    while len(seen) < len(expected):
        seen += epoch(after)
    assert seen == expected


def test_the_place_is_that_of_the_batches_that_were_given():
    """Whatever has been made beyond them."""
    batches = loader()
    made: list[int] = []
    collate = batches.collate
    batches.collate = lambda indices: [made.append(len(made)), collate(indices)][1]  # type: ignore[method-assign]
    taken = iter(batches)
    for count in (1, 2, 3):
        next(taken)
        assert batches.progress()["given"] == count
    taken.close()
    assert 3 <= len(made) <= 3 + AHEAD


def test_what_a_batch_holds():
    batches = loader(count=5, batch_size=5, shuffle=False)
    (batch,) = batches
    assert isinstance(batch, ConditionedBatch)
    assert len(batches) == 1
    for row, index in enumerate(learned(batch)):
        frames = batches.examples[index].codes.shape[1]
        assert batch.lengths[row] == frames
        assert batch.columns[row, :frames, 0].tolist() == [index] * frames


@pytest.mark.parametrize(
    "changed",
    [
        {"count": 24},
        {"count": 40},
        {"longer": 1},
        {"batch_size": 5},
        {"batch_size": 8},
        {"seed": 1},
        {"world": 2},
        {"columns": 100},
    ],
    ids=str,
)
def test_other_data_are_refused(changed):
    state = loader().progress()
    remedy = "resume with the run's own data|data.batch_size times the number of processes must be 4 again"
    with pytest.raises(ValueError, match=remedy):
        loader(**changed).resume(state)


def test_the_same_batches_on_more_processes_are_the_same():
    state = loader(batch_size=4).progress()
    loader(batch_size=2, world=2).resume(state)


def test_a_bound_of_columns_is_of_its_ranks():
    state = loader(batch_size=4, columns=100).progress()
    loader(batch_size=4, columns=100).resume(state)
    for changed in ({"columns": 50, "batch_size": 2, "world": 2}, {"columns": 100, "batch_size": 2, "world": 2}):
        with pytest.raises(ValueError, match="batches differ from those of the saved run"):
            loader(**changed).resume(state)
