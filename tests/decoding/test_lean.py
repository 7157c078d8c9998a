"""The lean body computes what the transformers body computes; int8 what its unpacked weights would."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from wand.attention import AttentionContext, AttentionWindow, use_wand_attention
from wand.kv_cache.full import FullCache
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.lean.body import LeanBody, fuse, reason_against_lean
from wand.lean.int8 import FEW_ROWS, quantize

PREFIX, WINDOW, STEPS = 6, 4, 15
STARTS = torch.tensor([0, 3, 1])
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 8}


def run(body, decoder, window: int | None, inputs: torch.Tensor) -> torch.Tensor:
    """Outputs ``[B, 1 + STEPS, D]`` of the prefix's last column and of every step."""
    rows = len(STARTS)
    starts, width = STARTS, window
    cache = (
        FullCache(PREFIX, starts)
        if width is None
        else PrefixWindowCache(decoder.config, prefix_length=PREFIX, window=width, batch_size=rows, starts=starts)
    )

    def forward(embeds, columns, context):
        positions = (columns - starts[:, None]).clamp(min=0)
        if isinstance(body, LeanBody):
            return body(embeds, positions, cache, context)
        return body(
            inputs_embeds=embeds,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            attention_context=context,
        ).last_hidden_state

    context = AttentionContext(AttentionWindow(), PREFIX, starts)
    outputs = [forward(inputs[:, :PREFIX], torch.arange(PREFIX).expand(rows, -1), context)[:, -1:]]
    for step in range(STEPS):
        columns = cache.positions.expand(rows)[:, None].clone()
        outputs.append(forward(inputs[:, PREFIX + step, None], columns, cache.step_context()))
    return torch.cat(outputs, dim=1)


@torch.no_grad()
@pytest.mark.parametrize("window", [WINDOW, None], ids=["window", "full"])
def test_it_equals_the_transformers_body(body, window):
    inputs = torch.randn(len(STARTS), PREFIX + STEPS, body.config.hidden_size)
    expected = run(body, body, window, inputs)
    torch.testing.assert_close(run(LeanBody(body), body, window, inputs), expected, atol=1e-5, rtol=1e-5)
    # and the body, whose parameters are views now, still computes the same
    torch.testing.assert_close(run(body, body, window, inputs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["linear", "llama3", "yarn"])
def test_scaled_rotations(kind):
    rope = {"rope_type": kind, "rope_theta": 100.0, "factor": 4.0}
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    config = LlamaConfig(**SIZES, rope_parameters=rope, max_position_embeddings=64, initializer_range=0.2)
    decoder = LlamaModel(config).eval()
    use_wand_attention(decoder)
    inputs = torch.randn(len(STARTS), PREFIX + STEPS, 32)
    expected = run(decoder, decoder, WINDOW, inputs)
    torch.testing.assert_close(run(LeanBody(decoder), decoder, WINDOW, inputs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_int8_is_the_body_with_rounded_weights(body):
    rounded = copy.deepcopy(body)
    for module in rounded.modules():
        if isinstance(module, nn.Linear):
            module.weight.copy_(quantize(module.weight).unpacked())
        elif type(module).__name__ == "Conv1D":
            module.weight.copy_(quantize(module.weight.T.contiguous()).unpacked().T)
    inputs = torch.randn(len(STARTS), PREFIX + STEPS, body.config.hidden_size)
    expected = run(rounded, rounded, WINDOW, inputs)
    own, exact = run(LeanBody(body, int8=True), body, WINDOW, inputs), run(body, body, WINDOW, inputs)
    # What is multiplied is rounded to bfloat16 on the way.
    assert float((own - expected).norm() / expected.norm()) < 0.02
    assert 0 < float((own - exact).norm() / exact.norm()) < 0.05


@given(st.integers(1, 2 * FEW_ROWS), st.sampled_from([torch.float32, torch.bfloat16]), st.integers(0, 99))
def test_quantised_weights(rows, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.randn(16, 32, generator=generator) * torch.logspace(-3, 2, 16)[:, None]).to(dtype)
    made = quantize(weight)
    # Half a step of the scale; the largest also by what the scale is rounded by.
    eps = torch.finfo(torch.bfloat16).eps
    slack = 0.5 * made.scales.float() + weight.float().abs().amax(1) * eps
    assert ((made.unpacked() - weight.float()).abs() <= 1.01 * slack[:, None]).all()
    factors = torch.randn(rows, 32, generator=generator).to(dtype)
    product = made.multiply(factors)
    assert product.dtype == dtype
    exact = made.unpacked().double()
    size = factors.double().abs() @ exact.abs().T
    assert ((product.double() - factors.double() @ exact.T).abs() <= 2 * eps * size).all()


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS + 10])
@pytest.mark.parametrize("width", [1, 20, 100, 2730])
def test_int8_of_any_width(width, rows):
    weight, factors = torch.randn(7, width), torch.randn(rows, width)
    made = quantize(weight)
    assert made.unpacked().shape == weight.shape
    expected = factors.bfloat16().double() @ weight.double().T
    # Half a step of the scale for each weight, and the rounding of the product to bfloat16.
    slack = factors.abs().double() @ (0.51 * made.scales.double() + 0.005 * weight.abs().amax(1))[None].expand(
        width, -1
    )
    assert ((made.multiply(factors) - expected).abs() <= slack).all()
    relative = (made.multiply(factors) - expected).norm() / expected.norm()
    assert relative < 0.03


def test_a_row_of_zeros_stays_zero():
    assert torch.equal(quantize(torch.zeros(2, 3)).unpacked(), torch.zeros(2, 3))


def test_fused_parameters_are_kept_once_and_stay_in_step():
    parameters = [nn.Parameter(torch.randn(n, 3)) for n in (4, 2, 2)]
    before = [parameter.detach().clone() for parameter in parameters]
    fused = fuse(parameters)
    assert torch.equal(fused, torch.cat(before))
    assert fuse(parameters).data_ptr() == fused.data_ptr()
    assert {parameter.untyped_storage().data_ptr() for parameter in parameters} == {fused.untyped_storage().data_ptr()}
    with torch.no_grad():
        parameters[1].fill_(7)
    assert (fused[4:6] == 7).all()


def test_neighbours_in_memory_are_not_enough():
    storage = torch.randn(6, 3)
    apart = [nn.Parameter(storage[:2]), nn.Parameter(storage[3:])]
    assert torch.equal(fuse(apart), torch.cat([storage[:2], storage[3:]]))


def test_other_bodies_are_refused_with_the_reason():
    other = Qwen3Model(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8))
    dynamic = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}
    sliding = Qwen2Config(**SIZES, num_key_value_heads=2, use_sliding_window=True, max_window_layers=0)
    reasons = [
        (other, "Qwen3Model is not of the Llama"),
        (LlamaModel(LlamaConfig(**SIZES, rope_parameters=dynamic)), "rotary embeddings are of type dynamic"),
        (Qwen2Model(sliding), "windows"),
        (GPT2Model(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=8, add_cross_attention=True)), "cross"),
    ]
    for decoder, reason in reasons:
        assert reason in str(reason_against_lean(decoder))
        with pytest.raises(ValueError, match=f"no lean decoder.*{reason}"):
            LeanBody(decoder)


class _Adapted(nn.Linear):
    """Stands for LoRA and its like: a linear layer that computes something else than its weight says."""


def _of_transformers() -> nn.Module:
    return type("FP8Linear", (nn.Linear,), {"__module__": "transformers.integrations.fp8"})(48, 32, bias=False)


def _of_torch() -> nn.Module:
    return nn.modules.linear.NonDynamicallyQuantizableLinear(48, 32, bias=False)


@pytest.mark.parametrize("make", [partial(_Adapted, 48, 32, bias=False), _of_transformers, _of_torch])
def test_layers_with_foreign_modules_are_refused(make):
    decoder = LlamaModel(LlamaConfig(**SIZES))
    assert reason_against_lean(decoder) is None
    decoder.layers[1].mlp.down_proj = made = make()
    assert type(made).__name__ in str(reason_against_lean(decoder))


def test_a_body_that_spoke_in_inference_mode_can_be_trained():
    decoder = LlamaModel(LlamaConfig(**SIZES))
    optimizer = torch.optim.SGD(decoder.parameters(), lr=1.0)
    with torch.inference_mode():
        lean = LeanBody(decoder)
    query = decoder.layers[0].self_attn.q_proj.weight
    before = query.detach().clone()
    decoder(inputs_embeds=torch.randn(1, 5, 32)).last_hidden_state.sum().backward()
    optimizer.step()
    assert not torch.equal(query, before)
    torch.testing.assert_close(lean.layers[0].qkv(torch.eye(32))[:, :32].T, query)
