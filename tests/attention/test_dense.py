"""Dense attention equals the reference, outputs and gradients."""

from __future__ import annotations

import pytest
import torch

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.reference import reference_attention

ROWS, HEADS, COLUMNS, WIDTH = 2, 4, 9, 3
WINDOWS = {
    "full": AttentionWindow(),
    "hard-1": AttentionWindow(1),
    "hard-3": AttentionWindow(3),
    "hard-beyond-length": AttentionWindow(50),
    "soft-3": AttentionWindow(3, 0.7),
    "soft-1-tau-0": AttentionWindow(1, 0.0),
}


def inputs(groups: int) -> list[torch.Tensor]:
    heads = (HEADS, groups, groups)
    return [torch.randn(ROWS, h, COLUMNS, WIDTH, dtype=torch.float64, requires_grad=True) for h in heads]


@pytest.mark.parametrize("groups", [1, 2, 4], ids="kv-heads-{}".format)
@pytest.mark.parametrize(("boundary", "starts"), [(0, None), (4, None), (4, [0, 3]), (9, [2, 0])], ids=str)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_equals_the_reference(window, boundary, starts, groups):
    starts = None if starts is None else torch.tensor(starts)
    tensors = inputs(groups)
    expected = reference_attention(*tensors, window=window, boundary=boundary, starts=starts)
    output = AttentionContext(window, boundary, starts).attend(0, *tensors)
    torch.testing.assert_close(output, expected)
    weights = torch.randn_like(output)
    for own, true in zip(
        torch.autograd.grad((output * weights).sum(), tensors),
        torch.autograd.grad((expected * weights).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(own, true)


def test_scaling_replaces_the_default():
    tensors = inputs(2)
    window = AttentionWindow(3)
    expected = reference_attention(*tensors, window=window, boundary=4, scaling=0.9)
    torch.testing.assert_close(AttentionContext(window, 4).attend(0, *tensors, scaling=0.9), expected)


def test_a_very_soft_mask_is_full_and_a_very_strong_one_hard():
    tensors = inputs(2)

    def attend(window: AttentionWindow) -> torch.Tensor:
        return AttentionContext(window, 4, torch.tensor([0, 3])).attend(0, *tensors)

    torch.testing.assert_close(attend(AttentionWindow(2, 0.0)), attend(AttentionWindow()))
    torch.testing.assert_close(attend(AttentionWindow(2, 1e4)), attend(AttentionWindow(2)))
    assert not torch.allclose(attend(AttentionWindow(2)), attend(AttentionWindow()))


def test_gradients_flow_outside_a_soft_window_only():
    gradients = {}
    for name, window in {"soft": AttentionWindow(2, 1.0), "hard": AttentionWindow(2)}.items():
        query, key, value = inputs(4)
        AttentionContext(window, 4).attend(0, query, key, value)[:, -1].sum().backward()
        gradients[name] = value.grad[:, :, 4:-2].abs().amax()
    assert gradients["hard"] == 0
    assert gradients["soft"] > 0
