"""The attention inside transformers' decoders."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from wand.attention import AttentionContext, AttentionWindow

BOUNDARY, COLUMNS = 4, 16


def embeddings(body: PreTrainedModel, rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, COLUMNS, body.config.hidden_size)


def hidden(body: PreTrainedModel, embeds: torch.Tensor, context: AttentionContext) -> torch.Tensor:
    return body(inputs_embeds=embeds, use_cache=False, attention_context=context).last_hidden_state


def test_full_attention_is_the_stock_decoder(body):
    embeds = embeddings(body)
    ours = hidden(body, embeds, AttentionContext(AttentionWindow(), BOUNDARY))
    body.set_attn_implementation("eager")
    torch.testing.assert_close(ours, body(inputs_embeds=embeds, use_cache=False).last_hidden_state)


def test_window_is_the_stock_decoder_under_an_explicit_mask(body):
    embeds = embeddings(body)
    ours = hidden(body, embeds, AttentionContext(AttentionWindow(3), BOUNDARY))
    seen = torch.tensor(
        [[j <= i and (j < BOUNDARY or i - j < 3) for j in range(COLUMNS)] for i in range(COLUMNS)],
    )
    body.set_attn_implementation("eager")
    mask = torch.zeros(2, 1, COLUMNS, COLUMNS).masked_fill(~seen, torch.finfo(torch.float32).min)
    output = body(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    torch.testing.assert_close(ours, output.last_hidden_state)


def test_without_context_is_refused(body):
    with pytest.raises(ValueError, match="attention_context"):
        body(inputs_embeds=embeddings(body), use_cache=False)


def test_dropout_is_refused(body):
    for layer in body.modules():
        if hasattr(layer, "attention_dropout"):
            layer.attention_dropout = 0.1
        if hasattr(layer, "attn_dropout"):
            layer.attn_dropout.p = 0.1
    with pytest.raises(ValueError, match=r"dropout 0\.1"):
        hidden(body.train(), embeddings(body), AttentionContext(AttentionWindow(3), BOUNDARY))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
@pytest.mark.parametrize("window", [AttentionWindow(3), AttentionWindow(3, 1.5)], ids=["hard", "soft"])
def test_gradient_checkpointing_changes_nothing(body, window, reentrant):
    embeds = embeddings(body).requires_grad_()
    context = AttentionContext(window, BOUNDARY, torch.tensor([0, 2]))
    weights = torch.randn(2, COLUMNS, body.config.hidden_size)

    def gradients() -> list[torch.Tensor]:
        body.zero_grad()
        (hidden(body, embeds, context) * weights).sum().backward()
        found = [p.grad.clone() for p in body.parameters() if p.grad is not None]
        found.append(embeds.grad.clone())
        embeds.grad = None
        return found

    body.train()
    plain = gradients()
    body.gradient_checkpointing_enable({"use_reentrant": reentrant})
    calls: list[int] = []
    first_layer = (body.layers if hasattr(body, "layers") else body.h)[0]
    first_layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    checkpointed = gradients()
    assert len(calls) == 2, "the layer is computed again in the backward pass"
    assert len(plain) == len(checkpointed)
    for one, other in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, other)
