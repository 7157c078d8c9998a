"""transformers' own ``generate()`` with our cache speaks what a masked full forward would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from wand.kv_cache.prefix_window import PrefixWindowCache

PREFIX, WINDOW, STEPS, VOCABULARY = 5, 4, 21, 40
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
}


@torch.no_grad()
def brute_force(model: PreTrainedModel, prompt: Tensor, start: int) -> list[int]:
    """Greedy ids of one row: everything again for every token, under an explicit mask."""
    model.set_attn_implementation("eager")
    ids = prompt[start:].tolist()
    boundary = len(ids)
    for _ in range(STEPS):
        n = len(ids)
        seen = torch.tensor([[j <= i and (j < boundary or i - j < WINDOW) for j in range(n)] for i in range(n)])
        mask = torch.zeros(1, 1, n, n).masked_fill(~seen, torch.finfo(torch.float32).min)
        ids.append(int(model(torch.tensor([ids]), attention_mask=mask, use_cache=False).logits[0, -1].argmax()))
    return ids[boundary:]


@pytest.mark.parametrize("starts", [[0, 0, 0], [0, 3, 1]], ids=["unpadded", "left-padded"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_generate(model, starts):
    model = model().eval()
    prompts = torch.randint(1, VOCABULARY, (3, PREFIX))
    mask = torch.arange(PREFIX) >= torch.tensor(starts)[:, None]
    cache = PrefixWindowCache(model.config, prefix_length=PREFIX, window=WINDOW, batch_size=3)
    model.set_attn_implementation("sdpa")
    output = model.generate(
        prompts.where(mask, 0),
        attention_mask=mask.long(),
        past_key_values=cache,
        max_new_tokens=STEPS,
        do_sample=False,
    )
    expected = [brute_force(model, prompt, start) for prompt, start in zip(prompts, starts, strict=True)]
    assert output[:, PREFIX:].tolist() == expected
    assert len({tuple(row) for row in expected}) == 3, "rows that speak alike would prove little"


def test_beam_search_is_refused():
    model = MODELS["llama"]().eval()
    cache = PrefixWindowCache(model.config, prefix_length=PREFIX, window=WINDOW, batch_size=2)
    with pytest.raises(ValueError, match="beam search"):
        model.generate(torch.randint(1, VOCABULARY, (1, PREFIX)), past_key_values=cache, num_beams=2, max_new_tokens=4)
