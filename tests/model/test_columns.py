"""The delay pattern, by loops over its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.distillation.losses import IGNORE
from wand.model.columns import ColumnLayout, FlattenedLayout

STOP, FILLER = 50, 51
codebooks = st.integers(1, 5)
frames = st.integers(0, 9)


def made(k: int, f: int) -> tuple[ColumnLayout, torch.Tensor]:
    """A layout and codes whose entries tell codebook and frame."""
    codes = torch.tensor([[10 * codebook + frame for frame in range(f)] for codebook in range(k)]).view(k, f)
    return ColumnLayout(k, STOP, FILLER), codes


@given(codebooks, frames)
def test_codes_come_back(k, f):
    layout, codes = made(k, f)
    assert torch.equal(layout.from_columns(layout.to_columns(codes)), codes)


@given(codebooks, frames)
def test_codebook_k_is_delayed_by_k_columns(k, f):
    layout, codes = made(k, f)
    columns = layout.to_columns(codes)
    assert columns.shape == (f + k - 1, k)
    for i in range(f + k - 1):
        for codebook in range(k):
            frame = i - codebook
            assert columns[i, codebook] == (codes[codebook, frame] if 0 <= frame < f else FILLER)


@given(codebooks, frames)
def test_labels(k, f):
    layout, codes = made(k, f)
    labels = layout.labels(layout.to_columns(codes))
    assert labels.shape == (f + k, k)
    for i in range(f + k):
        for codebook in range(k):
            if codebook <= i < f + codebook:
                assert labels[i, codebook] == codes[codebook, i - codebook]
            elif codebook == 0 and i == f:
                assert labels[i, codebook] == STOP
            else:
                assert labels[i, codebook] == IGNORE


@given(codebooks, st.integers(1, 9))
def test_what_is_fed_back_while_decoding_is_what_training_saw(k, f):
    layout, codes = made(k, f)
    columns = layout.to_columns(codes)
    labels = layout.labels(columns)
    for step in range(len(columns)):
        tokens = labels[step].where(labels[step] != IGNORE, torch.tensor(7))[None]
        stopped = torch.tensor([f if step >= f else 10**6])
        assert torch.equal(layout.settle(tokens, torch.tensor([step]), stopped)[0], columns[step])


def test_settle_treats_rows_apart():
    layout = ColumnLayout(2, STOP, FILLER)
    tokens = torch.tensor([[1, 2], [STOP, 4], [5, 6], [8, 9]])
    settled = layout.settle(tokens, torch.tensor([3, 3, 3, 0]), torch.tensor([10**6, 3, 2, 10**6]))
    assert settled.tolist() == [[1, 2], [FILLER, 4], [FILLER, FILLER], [8, FILLER]]


@given(codebooks, frames, st.integers(0, 8))
def test_only_complete_frames_come_back_from_columns_cut_short(k, f, cut):
    layout, codes = made(k, f)
    kept = max(0, f - cut)
    columns = layout.to_columns(codes)[: max(0, f + k - 1 - cut)]
    assert torch.equal(layout.from_columns(columns), codes[:, :kept])


def test_other_numbers_of_codebooks_are_refused():
    with pytest.raises(ValueError, match="3 codebooks, this model speaks 2"):
        ColumnLayout(2, STOP, FILLER).to_columns(torch.zeros(3, 4, dtype=torch.long))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=7), st.integers(0, 5), st.integers(0, 6))
def test_flattened_slots_speak_their_codebooks_in_turn(codebooks, f, rest):
    """Rows of codes are sorted by codebook; slot after slot takes the next row of its own."""
    slots = len(codebooks)
    layout = FlattenedLayout(1, slots * 9, slots * 9, (9,) * slots, tuple(codebooks))
    codes = torch.randint(0, 9, (slots, f))
    expected = []
    for frame in range(f):
        waiting = {book: [row for row, own in enumerate(sorted(codebooks)) if own == book] for book in codebooks}
        for slot, book in enumerate(codebooks):
            expected.append(slot * 9 + int(codes[waiting[book].pop(0), frame]))
    columns = layout.to_columns(codes)
    assert columns[:, 0].tolist() == expected
    assert len(columns) == layout.columns_of(f)
    begun = torch.cat([columns, torch.zeros(min(rest, slots - 1), 1, dtype=torch.long)])
    assert torch.equal(layout.from_columns(begun), codes)
    allowed = layout.allowed_rows(slots * 9 + 1)
    for i, row in enumerate(expected):
        assert allowed[i % slots, row]
    assert allowed.sum(-1).tolist() == [10] + [9] * (slots - 1)
    assert layout.whole_frames(1) == slots
    assert layout.whole_frames(slots + 1) == 2 * slots
