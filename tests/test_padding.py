"""`wand.apply_window`: padding, masks and the options of `generate` are right or refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import wand
from wand.attention import AttentionWindow
from wand.windowed import WindowedModel

PREFIX, WINDOW, NEW = 6, 3, 10
GREEDY: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False}
LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def make(kind: str = "llama", **tokens: Any) -> WindowedModel:
    torch.manual_seed(0)
    chosen = {"vocab_size": 40, "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": None, **tokens}
    model = (
        LlamaForCausalLM(LlamaConfig(**LLAMA, **chosen))
        if kind == "llama"
        else GPT2LMHeadModel(GPT2Config(**GPT2, **chosen))
    )
    return wand.apply_window(model.eval(), WINDOW)


def prompts() -> tuple[Tensor, Tensor]:
    """Ids ``[3, P]`` padded with 0, and their mask."""
    torch.manual_seed(1)
    mask = torch.arange(PREFIX) >= torch.tensor([0, 2, 3])[:, None]
    return torch.randint(5, 40, (3, PREFIX)).where(mask, 0), mask.long()


@torch.no_grad()
def alone(windowed: WindowedModel, prompt: Tensor) -> list[int]:
    """Greedy tokens of one row without padding, each from a whole forward pass."""
    ids = prompt[None]
    for _ in range(NEW):
        logits = windowed(input_ids=ids, boundary=len(prompt)).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("pad", [0, None, 2], ids=["pad", "no pad", "pad is eos"])
def test_generate_takes_the_padding_from_the_mask(kind: str, pad: int | None) -> None:
    windowed = make(kind, pad_token_id=pad, eos_token_id=2 if pad == 2 else None)
    ids, mask = prompts()
    ids = ids.where(mask > 0, pad or 0)
    spoken = windowed.generate(ids, attention_mask=mask, **GREEDY, eos_token_id=None, pad_token_id=pad)
    for row, own, seen in zip(spoken, ids, mask, strict=True):
        assert row[PREFIX:].tolist() == alone(windowed, own[seen > 0])


def test_leading_padding_tokens_are_padding() -> None:
    windowed = make(pad_token_id=0, eos_token_id=2)
    ids, mask = prompts()
    spoken = windowed.generate(ids, **GREEDY)
    assert torch.equal(spoken, windowed.generate(ids, attention_mask=mask, **GREEDY))


@pytest.mark.parametrize(("pad", "filler"), [(None, 0), (None, 2), (None, 7), (2, 2)])
def test_padding_that_cannot_be_told_from_text_is_refused(pad: int | None, filler: int) -> None:
    windowed = make(pad_token_id=pad, eos_token_id=2)
    ids, mask = prompts()
    with pytest.raises(ValueError, match="give attention_mask"):
        windowed.generate(ids.where(mask > 0, filler), **GREEDY)


@pytest.mark.parametrize("tokens", [{}, {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1}])
def test_prompts_that_cannot_be_padded_need_no_mask(tokens: dict[str, Any]) -> None:
    windowed = make(**tokens)
    ids = torch.tensor([[1, 9, 8, 7], [1, 5, 6, 5]])
    for rows in (ids, ids[:1]):
        spoken = windowed.generate(rows, **GREEDY, eos_token_id=None)
        assert [row[4:].tolist() for row in spoken] == [alone(windowed, row) for row in rows]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_forward_takes_the_padding_from_the_mask(kind: str) -> None:
    windowed = make(kind)
    ids, mask = prompts()
    ids = torch.cat([ids, torch.randint(5, 40, (3, 9))], dim=1)
    seen = torch.cat([mask, torch.ones(3, 9, dtype=torch.long)], dim=1)
    seen[1, -2:] = 0  # padding after the text is harmless
    together = windowed(input_ids=ids, attention_mask=seen, boundary=PREFIX).logits
    by_starts = windowed(input_ids=ids, starts=torch.tensor([0, 2, 3]), boundary=PREFIX).logits
    for row, start, end in ((0, 0, 15), (1, 2, 13), (2, 3, 15)):
        own = windowed(input_ids=ids[row : row + 1, start:], boundary=PREFIX - start).logits[0]
        torch.testing.assert_close(together[row, start:end], own[: end - start], atol=1e-4, rtol=0)
    assert torch.equal(together, by_starts)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 1, 0, 1, 1, 1]], "hole"),
        ([[0, 0, 0, 0, 0, 0]], "no real column"),
        ([[0, 0, 0, 0, 1, 1]], "after the boundary"),
        ([[1, 1, 1]], "one number for each column"),
        ([[[[1.0] * 6] * 6]], "one number for each column"),
    ],
)
def test_a_mask_that_the_window_cannot_honour_is_refused(mask: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(input_ids=torch.full((1, 6), 5), boundary=3, attention_mask=torch.tensor(mask))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"use_cache": True}, "fills no cache"),
        ({"past_key_values": object()}, "takes whole texts"),
        ({"encoder_hidden_states": torch.zeros(1, 2, 32)}, "no window"),
        ({"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}, "several texts"),
        ({"starts": torch.tensor([1]), "attention_mask": torch.ones(1, 6)}, "differ"),
    ],
)
def test_an_input_without_a_window_is_refused(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(input_ids=torch.full((1, 6), 5), boundary=3, **inputs)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"assistant_model": object()},
        {"prompt_lookup_num_tokens": 3},
        {"guidance_scale": 1.5},
        {"cache_implementation": "static"},
        {"past_key_values": object()},
        {"attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]])},
        {"attention_mask": torch.tensor([[1, 0, 1, 1, 1, 1]])},
    ],
)
def test_an_option_of_generate_that_the_window_cannot_honour_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"windowed|pads prompts on the right|hole") as caught:
        make(pad_token_id=0).generate(torch.full((1, PREFIX), 5), **GREEDY, **options)
    assert "\n" not in str(caught.value)


def test_several_speeches_of_one_prompt() -> None:
    windowed = make(pad_token_id=0)
    ids, mask = prompts()
    options = {"max_new_tokens": NEW, "do_sample": True, "top_k": 1, "num_return_sequences": 2}
    spoken = windowed.generate(ids, attention_mask=mask, **options)
    for i, (own, seen) in enumerate(zip(ids, mask, strict=True)):
        expected = alone(windowed, own[seen > 0])
        assert spoken[2 * i, PREFIX:].tolist() == spoken[2 * i + 1, PREFIX:].tolist() == expected


def test_generate_from_embeddings() -> None:
    windowed = make(pad_token_id=0)
    ids, mask = prompts()
    embeds = windowed.model.get_input_embeddings()(ids)
    spoken = windowed.generate(inputs_embeds=embeds, attention_mask=mask, **GREEDY)
    assert [row.tolist() for row in spoken] == [
        alone(windowed, own[seen > 0]) for own, seen in zip(ids, mask, strict=True)
    ]


def test_full_attention_generates_as_the_original() -> None:
    windowed = make(pad_token_id=0)
    ids, mask = prompts()
    windowed.window = AttentionWindow()
    assert torch.equal(
        windowed.generate(ids, attention_mask=mask, **GREEDY),
        wand.apply_window(windowed.model, None).generate(ids, attention_mask=mask, **GREEDY),
    )
    spoken = windowed.generate(ids, attention_mask=mask, **GREEDY)
    windowed.model.set_attn_implementation("eager")
    assert torch.equal(spoken, windowed.model.generate(ids, attention_mask=mask, **GREEDY))
    with pytest.raises(ValueError, match="full attention has no cache"):
        windowed.make_cache(PREFIX)


def test_generate_without_use_cache_gives_the_same_and_says_so() -> None:
    windowed = make(pad_token_id=0)
    ids, mask = prompts()
    with pytest.warns(UserWarning, match="use_cache False has no effect"):
        spoken = windowed.generate(ids, attention_mask=mask, use_cache=False, **GREEDY)
    assert torch.equal(spoken, windowed.generate(ids, attention_mask=mask, **GREEDY))
