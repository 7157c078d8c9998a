"""`wand.apply_window`: a plain transformers model, windowed, in a loop of one's own."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import wand
from wand.attention import AttentionWindow

PREFIX, WINDOW, COLUMNS = 5, 3, 17
LLAMA = LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
GPT2 = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return (LlamaForCausalLM(LLAMA) if name == "llama" else GPT2LMHeadModel(GPT2)).eval()


def masked_logits(model: PreTrainedModel, ids: torch.Tensor, window: int | None) -> torch.Tensor:
    stock = copy.deepcopy(model)
    stock.set_attn_implementation("eager")
    n = ids.shape[1]
    seen = torch.tensor(
        [[j <= i and (window is None or j < PREFIX or i - j < window) for j in range(n)] for i in range(n)]
    )
    mask = torch.zeros(1, 1, n, n).masked_fill(~seen, torch.finfo(torch.float32).min)
    return stock(ids, attention_mask=mask, use_cache=False).logits


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("size", [WINDOW, None])
def test_the_forward_is_masked_by_the_definition(name: str, size: int | None) -> None:
    model = make(name)
    ids = torch.randint(1, 40, (2, PREFIX + COLUMNS))
    expected = masked_logits(model, ids, size)
    windowed = wand.apply_window(model, window=WINDOW)
    logits = windowed(input_ids=ids, boundary=PREFIX, window=None if size else AttentionWindow()).logits
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)


def test_padded_prefixes_are_invisible() -> None:
    windowed = wand.apply_window(make("llama"), window=WINDOW)
    ids = torch.randint(1, 40, (2, PREFIX + COLUMNS))
    starts = torch.tensor([0, 2])
    together = windowed(input_ids=ids, boundary=PREFIX, starts=starts).logits
    alone = windowed(input_ids=ids[1:, 2:], boundary=PREFIX - 2).logits
    torch.testing.assert_close(together[1:, 2:], alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("boundary", "starts", "words"),
    [
        (-1, None, "boundary -1 is outside the 22 columns"),
        (23, None, "boundary 23 is outside the 22 columns"),
        (PREFIX, [0, -1], r"starts \[0, -1\] are not all between 0 and the boundary 5"),
        (PREFIX, [0, 6], r"starts \[0, 6\] are not all between 0 and the boundary 5"),
    ],
)
def test_starts_and_boundary_must_be_in_order(boundary: int, starts: list[int] | None, words: str) -> None:
    windowed = wand.apply_window(make("llama"), window=WINDOW)
    ids = torch.ones(2, PREFIX + COLUMNS, dtype=torch.long)
    with pytest.raises(ValueError, match=words):
        windowed(input_ids=ids, boundary=boundary, starts=None if starts is None else torch.tensor(starts))


def test_generate_speaks_what_the_forward_prefers() -> None:
    windowed = wand.apply_window(make("llama"), window=WINDOW)
    prefix = torch.randint(1, 40, (2, PREFIX))
    spoken = windowed.generate(prefix, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    logits = windowed(input_ids=spoken, boundary=PREFIX).logits
    assert torch.equal(logits[:, PREFIX - 1 : -1].argmax(-1), spoken[:, PREFIX:])


def test_weights_stay_the_models_own() -> None:
    model = make("llama")
    windowed = wand.apply_window(model, window=WINDOW)
    windowed(input_ids=torch.ones(1, 9, dtype=torch.long), boundary=4).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
