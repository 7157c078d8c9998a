"""FlexAttention's program: which tiles it visits, what it computes, when it is compiled again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.flex import TILE, _compiled, make_program
from wand.attention.reference import reference_attention

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, list[int] | None]:
    """Boundary, columns and starts, over several tiles."""
    boundary = draw(st.integers(0, 2 * TILE + 3))
    columns = boundary + draw(st.integers(1, 3 * TILE))
    return boundary, columns, draw(st.none() | st.lists(st.integers(0, boundary), min_size=2, max_size=2))


@settings(deadline=None, max_examples=60)
@given(layouts(), st.one_of(st.none(), st.integers(1, 3 * TILE)), st.one_of(st.none(), st.floats(0, 20)))
def test_tiles_and_mask_are_what_is_visible(layout, size, tau):
    boundary, columns, starts = layout
    window = AttentionWindow(size, tau if size is not None else None)
    starts = None if starts is None else torch.tensor(starts)
    mask = make_program(window, boundary, starts, 2, columns, CPU).block_mask
    # A soft mask hides nothing that full attention sees.
    hidden = window if window.tau is None else AttentionWindow()
    expected = AttentionContext(hidden, boundary, starts).visible(columns, CPU).expand(2, -1, -1)
    row, query, key = torch.meshgrid(torch.arange(2), torch.arange(columns), torch.arange(columns), indexing="ij")
    assert torch.equal(mask.mask_mod(row, torch.zeros_like(row), query, key), expected)
    partial, whole = (
        tiles(counts, indices).repeat_interleave(TILE, 1).repeat_interleave(TILE, 2)[:, :columns, :columns]
        for counts, indices in (
            (mask.kv_num_blocks, mask.kv_indices),
            (mask.full_kv_num_blocks, mask.full_kv_indices),
        )
    )
    assert not (partial & whole).any()
    assert torch.equal(whole | (partial & expected), expected)


def tiles(counts: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """``[B, tiles of queries, tiles of keys]``: the first `counts` of the indices."""
    made = torch.zeros(indices[:, 0].shape, dtype=torch.bool)
    for b in range(len(made)):
        for i in range(made.shape[1]):
            made[b, i, indices[b, 0, i, : counts[b, 0, i]].long()] = True
    return made


def test_a_window_visits_few_tiles():
    columns = 16 * TILE
    mask = make_program(AttentionWindow(32), TILE, None, 1, columns, CPU).block_mask
    visited = mask.kv_num_blocks + mask.full_kv_num_blocks
    assert visited.max() == 3, "the prefix, the tile before and its own"


@pytest.mark.parametrize(
    "window",
    [AttentionWindow(), AttentionWindow(3), AttentionWindow(50), AttentionWindow(3, 1.5), AttentionWindow(1, 0.0)],
    ids=str,
)
@pytest.mark.parametrize("starts", [None, [0, 3]], ids=["whole", "padded"])
@pytest.mark.parametrize("groups", [1, 4], ids="kv-heads-{}".format)
def test_forward_equals_the_reference(window, starts, groups):
    starts = None if starts is None else torch.tensor(starts)
    tensors = [torch.randn(2, heads, 13, 16, dtype=torch.float64) for heads in (4, groups, groups)]
    expected = reference_attention(*tensors, window=window, boundary=4, starts=starts, scaling=0.4)
    output = AttentionContext(window, 4, starts, kernel="flex").attend(0, *tensors, scaling=0.4)
    torch.testing.assert_close(output, expected)


def test_the_program_is_shared_by_layers():
    context = AttentionContext(AttentionWindow(3), 4, kernel="flex")
    tensors = [torch.randn(1, 2, 9, 16) for _ in range(3)]
    context.attend(0, *tensors)
    (own,) = context._by_window.values()
    (program,) = own._programs.values()
    context.attend(0, *tensors)
    assert list(own._programs.values()) == [program]
    assert not own._masks


def test_a_curriculum_is_compiled_once_soft_and_once_hard():
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch._dynamo.config.patch(recompile_limit=1)(_compiled(counter))  # as if other code had used it up
    generator = torch.Generator().manual_seed(0)

    def step(window: AttentionWindow) -> None:
        rows, boundary, speech = (int(torch.randint(2, 50, (), generator=generator)) for _ in range(3))
        starts = torch.randint(0, boundary, (rows,), generator=generator)
        query, key, value = (torch.randn(rows, heads, boundary + speech, 16) for heads in (4, 2, 2))
        program = make_program(window, boundary, starts, rows, boundary + speech, CPU)
        compiled(query, key, value, score_mod=program.score_mod, block_mask=program.block_mask, enable_gqa=True)

    for size, tau in [(128, 0.5), (120, 0.9), (96, 2.0), (64, 7.5)]:
        step(AttentionWindow(size, tau))
    assert counter.frame_count == 1
    for window in [AttentionWindow(48), AttentionWindow(32), AttentionWindow(), AttentionWindow(8)]:
        step(window)
    assert counter.frame_count == 2
