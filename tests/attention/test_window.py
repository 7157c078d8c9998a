"""The one definition of the window, and the masks made of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.attention import AttentionContext, AttentionWindow

sizes = st.one_of(st.none(), st.integers(1, 12))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, list[int] | None]:
    """Columns, boundary and starts; starts are prefix columns (a prefix is never all padding)."""
    boundary = draw(st.integers(0, 6))
    columns = boundary + draw(st.integers(1, 10))
    rows = st.lists(st.integers(0, max(0, boundary - 1)), min_size=1, max_size=3)
    return columns, boundary, draw(st.none() | rows)


def visible(size: int | None, layout: tuple[int, int, list[int] | None]) -> torch.Tensor:
    columns, boundary, starts = layout
    context = AttentionContext(AttentionWindow(size), boundary, None if starts is None else torch.tensor(starts))
    return context.visible(columns, torch.device("cpu"))


@given(sizes, layouts())
def test_every_column_sees_itself_and_nothing_after_it(size, layout):
    for row in visible(size, layout):
        assert row.diagonal().all()
        assert not row.triu(1).any()


@given(sizes, layouts())
def test_a_speech_column_sees_its_window_and_all_real_prefix_columns(size, layout):
    columns, boundary, starts = layout
    for row, start in zip(visible(size, layout), starts or [0], strict=True):
        for i in range(columns - boundary):
            prefix, speech = row[boundary + i].split([boundary, columns - boundary])
            nearest = range(0 if size is None else max(0, i - size + 1), i + 1)
            assert prefix.nonzero().flatten().tolist() == list(range(start, boundary))
            assert speech.nonzero().flatten().tolist() == list(nearest)


@given(sizes, layouts())
def test_prefix_columns_are_causal_whatever_the_window(size, layout):
    boundary = layout[1]
    full = visible(None, layout)
    assert torch.equal(visible(size, layout)[:, :boundary], full[:, :boundary])


@given(layouts(), st.integers(1, 12), st.floats(0, 50))
def test_a_soft_mask_lowers_exactly_what_the_hard_mask_hides(layout, size, tau):
    columns, boundary, starts = layout
    context = AttentionContext(AttentionWindow(size, tau), boundary, None if starts is None else torch.tensor(starts))
    bias = context.mask(columns, torch.device("cpu"), torch.float64)[:, 0]
    hard, causal = visible(size, layout), visible(None, layout)
    assert (bias[hard] == 0).all()
    assert (bias[causal & ~hard] == -tau).all()
    assert bias[~causal].isneginf().all()


def test_masks_are_made_once():
    context = AttentionContext(AttentionWindow(2), 3)
    assert context.mask(7, torch.device("cpu")) is context.mask(7, torch.device("cpu"))


@pytest.mark.parametrize(
    ("size", "tau", "message"),
    [(0, None, "not positive"), (-3, None, "not positive"), (4, -0.1, "negative"), (None, 1.0, "no effect")],
)
def test_windows_that_make_no_sense_are_refused(size, tau, message):
    with pytest.raises(ValueError, match=message):
        AttentionWindow(size, tau)


def test_a_negative_boundary_is_refused():
    with pytest.raises(ValueError, match="negative"):
        AttentionContext(AttentionWindow(), -1)
