"""Which kernel is chosen, and that a model does not notice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from wand.attention import AttentionContext, AttentionWindow
from wand.attention.dispatch import choose_kernel

HARD, SOFT, FULL = AttentionWindow(32), AttentionWindow(32, 2.0), AttentionWindow()


def query(columns: int, heads: int = 14, dtype: torch.dtype = torch.float32, width: int = 64) -> Tensor:
    return torch.empty(2, heads, columns, width, dtype=dtype)


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(
    ("tensor", "window", "padded", "expected"),
    [
        (query(1024), HARD, True, "band"),
        (query(1024, dtype=torch.bfloat16), HARD, False, "band"),
        (query(1024, dtype=torch.float64), HARD, False, "band"),
        (query(1024, dtype=torch.float16), HARD, False, "dense"),
        (query(1024), SOFT, True, "dense"),
        (query(1024), FULL, True, "dense"),
        (query(140), HARD, False, "dense"),
        (query(100), HARD, False, "dense"),
        (query(400, heads=14), HARD, False, "band"),
        (query(400, heads=1), HARD, False, "dense"),
        (query(1024).to("meta"), HARD, False, "dense"),
    ],
)
def test_choices_without_a_gpu(tensor, window, padded, expected):
    assert choose_kernel(tensor, window, 128, padded) == expected


@pytest.mark.parametrize(
    ("tensor", "window", "padded", "expected"),
    [
        (query(1024), HARD, True, "flex"),
        (query(1024, dtype=torch.bfloat16), SOFT, False, "flex"),
        (query(1024, dtype=torch.float16), FULL, True, "flex"),
        (query(1024), FULL, False, "dense"),
        (query(1024, width=8), HARD, False, "dense"),
        (query(1024, dtype=torch.float64), HARD, False, "dense"),
        (query(128), FULL, True, "dense"),
    ],
)
def test_choices_on_a_gpu(tensor, window, padded, expected):
    assert choose_kernel(tensor.as_subclass(OnCuda), window, 128, padded) == expected


def test_a_window_as_wide_as_the_speech_is_worth_no_blocks():
    assert choose_kernel(query(400), AttentionWindow(300), 128, False) == "dense"


def test_no_mask_of_all_columns_is_made_for_the_band():
    context = AttentionContext(HARD, 40, torch.tensor([0, 7]))
    tensors = [torch.randn(2, heads, 400, 64) for heads in (14, 2, 2)]
    assert choose_kernel(tensors[0], HARD, 40, True) == "band"
    context.attend(0, *tensors)
    assert {mask.shape[-1] for own in context._by_window.values() for mask in own._masks.values()} == {40}


def test_autocast_brings_all_to_one_dtype():
    context = AttentionContext(AttentionWindow(5), 4, kernel="band")
    query, key = torch.randn(1, 4, 50, 8, requires_grad=True), torch.randn(1, 2, 50, 8, requires_grad=True)
    value = torch.randn(1, 2, 50, 8, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = context.attend(0, query, key, value)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert [t.grad.dtype for t in (query, key, value)] == [torch.float32, torch.float32, torch.bfloat16]


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
def test_a_model_is_the_same_under_band_and_dense(body: PreTrainedModel, checkpointing, autocast):
    columns, starts = 90, torch.tensor([0, 9])
    body = body.train()
    if checkpointing:
        body.gradient_checkpointing_enable({"use_reentrant": False})
    embeds = torch.randn(2, columns, body.config.hidden_size, requires_grad=True)
    weights = torch.randn(2, columns, body.config.hidden_size)
    weights[1, :9] = 0

    def results(kernel: str) -> list[Tensor]:
        body.zero_grad()
        context = AttentionContext(AttentionWindow(6), 20, starts, kernel=kernel)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = body(inputs_embeds=embeds, use_cache=False, attention_context=context).last_hidden_state
        parameters = [p for p in body.parameters() if p.requires_grad]
        grads = torch.autograd.grad((output * weights).sum(), [embeds, *parameters], allow_unused=True)
        return [output * (weights != 0), *(grad for grad in grads if grad is not None)]

    for own, dense in zip(results("band"), results("dense"), strict=True):
        if autocast:
            assert (own - dense).norm() < 0.03 * dense.norm()
        else:
            torch.testing.assert_close(own, dense, rtol=1e-4, atol=1e-4)
