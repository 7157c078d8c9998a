"""Items are made in order, in another thread, and not far ahead."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wand.data.prefetch import prefetch


@given(st.lists(st.integers(), max_size=20), st.integers(0, 4))
def test_the_same_as_one_after_another(items, ahead):
    assert list(prefetch(lambda item: 2 * item, items, ahead)) == [2 * item for item in items]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_so_much_is_made_beforehand_and_no_more(ahead):
    made = [threading.Semaphore(0) for _ in range(10)]
    count = 0

    def make(item: int) -> int:
        nonlocal count
        count += 1
        made[item].release()
        return item

    taken = prefetch(make, range(10), ahead)
    for item in range(5):
        assert next(taken) == item
        # Made without being asked for; a timeout fails instead of waiting for ever.
        assert made[item + ahead].acquire(timeout=60)
        assert count == item + 1 + ahead
    taken.close()
    assert count == 5 + ahead


def test_the_caller_makes_nothing_itself():
    threads = set(prefetch(lambda item: threading.get_ident(), range(5), 2))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_an_error_comes_when_its_item_is_asked_for():
    def make(item: int) -> int:
        if item == 3:
            raise ValueError("shard x is damaged")
        return item

    taken = prefetch(make, range(10), 2)
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="shard x is damaged"):
        next(taken)
    assert list(taken) == []
