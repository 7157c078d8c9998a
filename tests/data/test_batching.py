"""Which utterances are in which batch, and going on from the middle of an epoch."""

from __future__ import annotations

from itertools import chain, islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.backbones.encodec_lm import SymbolConditioner
from wand.columns import ColumnLayout
from wand.conditioning import ConditionedBatch, Reference
from wand.data.batching import BatchLoader, plan_epoch
from wand.data.shards import Example
from wand.distillation import IGNORE

LAYOUT = ColumnLayout(1, 900, 901)
CONDITIONER = SymbolConditioner(LAYOUT, "letters", "ab ", 4)
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=120)


def corpus(count: int = 23, longer: int = 0) -> list[Example]:
    """Utterances whose codes are their own index."""
    conditioning = CONDITIONER("a", Reference(torch.zeros(1, 2, dtype=torch.long)))
    frames = [1 + (7 * i) % 11 + longer for i in range(count)]
    return [Example(str(i), "a", "s", conditioning, torch.full((1, frames[i]), i)) for i in range(count)]


def loader(count: int = 23, batch_size: int = 4, longer: int = 0, **settings: int) -> BatchLoader:
    return BatchLoader(corpus(count, longer), CONDITIONER, LAYOUT, batch_size, **settings)


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


@given(lengths, st.integers(1, 5), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_every_utterance_once(lengths, batch_size, seed, epoch, shuffle):
    plan = plan_epoch(lengths, batch_size, seed, epoch, shuffle)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in plan)
    assert plan == plan_epoch(lengths, batch_size, seed, epoch, shuffle)


@given(lengths, st.integers(1, 5))
def test_without_shuffling_batches_go_by_length(lengths, batch_size):
    plan = plan_epoch(lengths, batch_size, 0, 0, shuffle=False)
    ordered = [lengths[i] for batch in plan for i in batch]
    assert ordered == sorted(lengths)
    assert plan == plan_epoch(lengths, batch_size, 1, 5, shuffle=False)


def test_batches_are_even_and_epochs_differ():
    lengths = [1 + (37 * i) % 101 for i in range(400)]
    plans = [plan_epoch(lengths, 8, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len({str(plan) for plan in plans}) == 3
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in plans[0]]
    assert max(spread) <= 10


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


@given(st.integers(0, 17))
def test_going_on_from_anywhere(taken):
    undisturbed = loader()
    expected = [*chain(*(epoch(undisturbed) for _ in range(4)))]
    before, after = loader(), loader()
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
    [{"count": 24}, {"count": 40}, {"longer": 1}, {"batch_size": 5}, {"batch_size": 8}, {"seed": 1}, {"world": 2}],
    ids=str,
)
def test_other_data_are_refused(changed):
    state = loader().progress()
    with pytest.raises(ValueError, match="resume with the run's own data"):
        loader(**changed).resume(state)


def test_the_same_batches_on_more_processes_are_the_same():
    state = loader(batch_size=4).progress()
    loader(batch_size=2, world=2).resume(state)
