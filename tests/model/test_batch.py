"""Batches: prefixes end at one boundary, speech begins there."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wand.backbones.encodec_lm import SymbolConditioner
from wand.codecs.reference import Reference
from wand.distillation.losses import IGNORE
from wand.model.batch import left_pad, make_batch
from wand.model.columns import ColumnLayout

LAYOUT = ColumnLayout(2, 10, 11)
CONDITIONER = SymbolConditioner(LAYOUT, "letters", "ab ", 4)
rows = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6)), min_size=1, max_size=4)


@given(rows)
def test_rows_are_aligned_at_the_boundary(shapes):
    voice = Reference(torch.tensor([[1, 2], [3, 4]]))
    conditionings = [CONDITIONER("a" * letters, voice) for letters, _ in shapes]
    codes = [torch.randint(0, 10, (2, frames)) for _, frames in shapes]
    batch = make_batch(CONDITIONER, LAYOUT, conditionings, codes)
    lengths = [len(c["ids"]) for c in conditionings]
    longest = max(frames for _, frames in shapes) + 1
    assert len(batch) == len(shapes)
    assert batch.prefix_length == max(lengths)
    assert batch.starts.tolist() == [max(lengths) - length for length in lengths]
    assert batch.padded == (len(set(lengths)) > 1)
    assert (batch.padded_starts is None) == (not batch.padded)
    assert batch.columns.shape == (len(shapes), longest, 2)
    assert batch.labels.shape == (len(shapes), longest + 1, 2)
    for row, (_, frames) in enumerate(shapes):
        own = LAYOUT.to_columns(codes[row])
        assert batch.lengths[row] == frames + 1
        assert torch.equal(batch.columns[row, : frames + 1], own)
        assert (batch.columns[row, frames + 1 :] == LAYOUT.filler_id).all()
        assert torch.equal(batch.labels[row, : frames + 2], LAYOUT.labels(own))
        assert (batch.labels[row, frames + 2 :] == IGNORE).all()
        assert torch.equal(batch.conditioning["ids"][row, batch.starts[row] :], conditionings[row]["ids"])


def test_without_codes_speech_is_yet_to_come():
    voice = Reference(torch.tensor([[1, 2], [3, 4]]))
    batch = make_batch(CONDITIONER, LAYOUT, [CONDITIONER("a", voice), CONDITIONER("ab", voice)])
    assert batch.columns.shape == (2, 0, 2)
    assert batch.lengths.tolist() == [0, 0]
    assert (batch.labels == IGNORE).all()


def test_left_pad():
    padded = left_pad([torch.tensor([1]), torch.tensor([2, 3, 4])], 4, value=9)
    assert padded.tolist() == [[9, 9, 9, 1], [9, 2, 3, 4]]
