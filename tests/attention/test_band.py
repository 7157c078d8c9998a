"""The band kernel equals the reference, outputs and gradients."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wand.attention import AttentionContext, AttentionWindow, band
from wand.attention.reference import reference_attention

Layout = tuple[int, int, list[int] | None]


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Boundary, columns and starts; a row may be all padding up to the boundary."""
    boundary = draw(st.integers(0, 6))
    columns = boundary + draw(st.integers(0 if boundary else 1, 22))
    starts = draw(st.none() | st.lists(st.integers(0, boundary), min_size=1, max_size=3))
    return boundary, columns, starts


def inputs(rows: int, heads: int, groups: int, columns: int, width: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """In the memory layout that transformers' decoders give."""
    shapes = ((rows, columns, h, width) for h in (heads, groups, groups))
    return [torch.randn(shape, dtype=dtype).transpose(1, 2).requires_grad_() for shape in shapes]


def assert_equal(output: torch.Tensor, expected: torch.Tensor, tensors: list[torch.Tensor]) -> None:
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    for own, true in zip(
        torch.autograd.grad(output, tensors, weights), torch.autograd.grad(expected, tensors, weights), strict=True
    ):
        torch.testing.assert_close(own, true, rtol=0, atol=1e-12)


# Small blocks and pieces, so that short rows, which the reference needs, are made of several.
@pytest.mark.parametrize(("block", "piece"), [(4, 1), (4, 3000), (8, 2**20)], ids=str)
@settings(deadline=None, max_examples=25)
@given(layouts(), st.integers(1, 30), st.sampled_from([(2, 2), (4, 2), (3, 1)]), st.sampled_from([None, 0.9]))
def test_equals_the_reference(block, piece, layout, size, heads, scaling):
    boundary, columns, starts = layout
    window = AttentionWindow(size)
    starts = None if starts is None else torch.tensor(starts)
    tensors = inputs(1 if starts is None else len(starts), *heads, columns, 3, torch.float64)
    expected = reference_attention(*tensors, window=window, boundary=boundary, starts=starts, scaling=scaling)
    with mock.patch.multiple(band, BLOCK=block, ALIGNMENT=4, PIECE_BYTES=piece):
        output = AttentionContext(window, boundary, starts, kernel="band").attend(0, *tensors, scaling=scaling)
        assert_equal(output, expected, tensors)


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_equals_dense_attention_at_length(data):
    boundary = data.draw(st.integers(0, 70))
    columns = boundary + data.draw(st.integers(1, 300))
    window = AttentionWindow(data.draw(st.integers(1, 130)))
    heads = data.draw(st.sampled_from([(2, 2), (6, 2), (7, 1)]))
    starts = data.draw(st.none() | st.lists(st.integers(0, boundary), min_size=2, max_size=2).map(torch.tensor))
    tensors = inputs(2, *heads, columns, 8, torch.float64)
    contexts = (AttentionContext(window, boundary, starts, kernel=kernel) for kernel in ("band", "dense"))
    output, expected = (context.attend(0, *tensors) for context in contexts)
    assert_equal(output, expected, tensors)


@pytest.mark.parametrize("width", [64, 48], ids="width-{}".format)
def test_bfloat16_is_as_exact_as_dense_attention(width):
    tensors = inputs(2, 4, 2, 400, width, torch.bfloat16)
    weights = torch.randn(2, 400, 4, width)
    starts = torch.tensor([0, 30])

    def results(kernel: str, dtype: torch.dtype) -> list[torch.Tensor]:
        own = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
        output = AttentionContext(AttentionWindow(32), 100, starts, kernel=kernel).attend(0, *own)
        grads = torch.autograd.grad(output, own, weights.bfloat16().to(dtype))
        return [result.double() for result in (output, *grads)]

    exact = results("dense", torch.float64)
    for own, dense, true in zip(results("band", torch.bfloat16), results("dense", torch.bfloat16), exact, strict=True):
        assert (own - true).norm() < 2 * (dense - true).norm()


def test_what_padding_holds_does_not_matter():
    def attend(fill: float) -> torch.Tensor:
        torch.manual_seed(0)
        tensors = inputs(2, 4, 2, 60, 8, torch.float64)
        with torch.no_grad():
            for tensor in tensors:
                tensor[1, :, :5] = fill
        context = AttentionContext(AttentionWindow(7), 12, torch.tensor([0, 5]), kernel="band")
        return context.attend(0, *tensors)[:, 12:]

    assert torch.equal(attend(0.0), attend(1e4))


@pytest.mark.parametrize("window", [AttentionWindow(), AttentionWindow(3, 1.0)], ids=["full", "soft"])
def test_other_windows_are_refused(window):
    with pytest.raises(ValueError, match="hard windows only"):
        AttentionContext(window, 4, kernel="band")
