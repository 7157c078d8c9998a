"""The kernels of the device, forward and backward, beside the reference; how often the kernel is compiled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from wand.attention import AttentionContext, AttentionWindow, Windows
from wand.attention.dispatch import choose_kernel
from wand.attention.reference import reference_attention
from wand.training.curriculum import WindowSchedule

WINDOWS = [AttentionWindow(), AttentionWindow(3), AttentionWindow(1), AttentionWindow(5, 1.5), AttentionWindow(3, 0.0)]
HEADS = [(4, 4), (4, 2), (14, 2)]
STEPS = 60
# Soft and hard with gradients, hard without; each for one row and for several, and once more where two sizes are equal.
MOST_KERNELS = 16


def inputs(heads: tuple[int, int], rows: int, columns: int, width: int = 64) -> list[Tensor]:
    """Queries, keys and values in float64, in the memory layout of transformers' decoders."""
    shapes = [(rows, columns, count, width) for count in (heads[0], heads[1], heads[1])]
    return [torch.randn(shape, dtype=torch.float64).transpose(1, 2) for shape in shapes]


def with_gradients(
    context: AttentionContext | None, tensors: list[Tensor], weights: Tensor, **how: object
) -> list[Tensor]:
    """The output and the gradients of the inputs, in float64 on the CPU. Without a context, of the reference."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = reference_attention(*leaves, **how) if context is None else context.attend(0, *leaves)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(output, leaves, weights.to(output))
    return [tensor.detach().double().cpu() for tensor in (output, *gradients)]


def compare(own: list[Tensor], expected: list[Tensor], rounding: float) -> None:
    for made, right in zip(own, expected, strict=True):
        assert (made - right).norm() <= rounding * right.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("starts", [None, [0, 3]], ids=["whole", "padded"])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_the_kernel_is_the_reference(
    device: torch.device,
    window: AttentionWindow,
    heads: tuple[int, int],
    starts: list[int] | None,
    dtype: torch.dtype,
) -> None:
    first = None if starts is None else torch.tensor(starts)
    tensors = [tensor.to(dtype).double() for tensor in inputs(heads, 2, 17)]
    weights = torch.randn(2, 17, heads[0], 64, dtype=torch.float64)
    if starts is not None:
        weights[1, : starts[1]] = 0  # the output of padding is not used
    expected = with_gradients(None, tensors, weights, window=window, boundary=4, starts=first)
    context = AttentionContext(window, 4, None if first is None else first.to(device))
    own = with_gradients(context, [tensor.to(device, dtype) for tensor in tensors], weights)
    compare([own[0] * (weights != 0), *own[1:]], [expected[0] * (weights != 0), *expected[1:]], rounding(dtype))


@pytest.mark.parametrize("window", [AttentionWindow(), AttentionWindow(33), AttentionWindow(200, 2.0)], ids=str)
@pytest.mark.parametrize("columns", [100, 128, 129, 517])
def test_long_rows_are_those_of_a_dense_mask(device: torch.device, window: AttentionWindow, columns: int) -> None:
    """Also over several tiles, whose last is not full. The dense kernel is tested against the reference elsewhere."""
    starts = torch.tensor([0, 70, 1])
    tensors, weights = inputs((4, 2), 3, columns), torch.randn(3, columns, 4, 64, dtype=torch.float64)
    weights[1, :70] = weights[2, :1] = 0
    expected = with_gradients(AttentionContext(window, 77, starts, kernel="dense"), tensors, weights)
    context = AttentionContext(window, 77, starts.to(device))
    own = with_gradients(context, [tensor.to(device, torch.float32) for tensor in tensors], weights)
    compare([own[0] * (weights != 0), *own[1:]], [expected[0] * (weights != 0), *expected[1:]], rounding(torch.float32))


def rounding(dtype: torch.dtype) -> float:
    return 2e-2 if dtype == torch.bfloat16 else 1e-4


def test_flex_attention_is_what_runs_on_a_gpu(device: torch.device) -> None:
    query = torch.empty(1, 4, 400, 64, device=device)
    expected = "flex" if device.type == "cuda" else "band"
    assert choose_kernel(query, AttentionWindow(32), 100, padded=True) == expected


def test_a_curriculum_compiles_few_kernels(device: torch.device) -> None:
    """Training, the teacher and validation, with batches of all shapes."""
    torch._dynamo.reset()
    counters.clear()
    schedule, final = WindowSchedule(start=64), AttentionWindow(16)
    random = torch.Generator().manual_seed(0)

    def attend(windows: Windows, mode: AbstractContextManager[object], trained: bool) -> None:
        rows, boundary, speech = (int(torch.randint(1, most, (), generator=random)) for most in (5, 90, 200))
        starts = torch.randint(0, boundary, (rows,), generator=random).to(device)
        tensors = [tensor.to(device, torch.float32) for tensor in inputs((4, 2), rows, boundary + speech, 32)]
        with mode:
            leaves = [tensor.requires_grad_() for tensor in tensors] if trained else tensors
            output = AttentionContext(windows, boundary, starts).attend(0, *leaves)
        if trained:
            output.sum().backward()

    for step in range(STEPS):
        attend(AttentionWindow(), torch.no_grad(), trained=False)
        attend(schedule.at(step, STEPS, final), nullcontext(), trained=True)
        if step % 10 == 9:
            attend(final, torch.inference_mode(), trained=False)
    compiled = counters["stats"]["unique_graphs"]
    assert (compiled > 0) == (device.type == "cuda")
    assert compiled <= MOST_KERNELS
