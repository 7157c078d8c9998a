"""Bodies of transformers under a window: right, or refused when the model is built."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

import wand
from benchmarks.bodies import build, config_of, judge
from wand.backbones.causal_lm import CausalSpeechLM
from wand.model.prompts import SpeechFormat, SpeechTokens

FULL = {"layer_types": ["full_attention"] * 4}
RIGHT: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in ("llama", "qwen2", "qwen3", "gpt2", "gpt_bigcode", "deepseek_v3", "diffllama", "bart")),
    *((kind, {"sliding_window": None}) for kind in ("mistral", "phi3")),
    ("mistral", {"sliding_window": 512}),
    ("gemma3_text", FULL),
    ("gemma2", {**FULL, "attn_logit_softcapping": None}),
    ("lfm2", {}),
]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("mistral", {}, "window or chunks of its own .sliding_window 16"),
    ("phi3", {}, "window or chunks"),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}, "layer 2 has a window"),
    ("llama4_text", {}, "attention_chunk_size 16"),
    ("gemma2", FULL, "softcap"),
    ("gpt_oss", FULL, "s_aux"),
    ("gemma3_text", {}, "window or chunks"),
    ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}, "layers 0, 2 have no attention"),
    ("falcon_h1", {}, "without attention"),
    ("bert", {"is_decoder": False}, "see later columns"),
    *((kind, {}, "AttentionInterface") for kind in ("falcon", "bloom", "gptj", "codegen", "gpt_neo", "mamba", "mpt")),
]
FORMAT = SpeechFormat([SpeechTokens("<{}>", count=12)], ["<stop>"], "{text}", 50.0, 16_000)


@pytest.mark.parametrize(("kind", "changes"), RIGHT)
def test_a_right_body(kind: str, changes: dict[str, Any]) -> None:
    """Full attention is the original's, the window acts, padding and generate are right."""
    outcome, reason = judge(*build(kind, changes))
    assert outcome == "right", reason


@pytest.mark.parametrize(("kind", "changes", "reason"), REFUSED)
def test_a_refused_body(kind: str, changes: dict[str, Any], reason: str) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config_of(kind, changes))
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match=f"does not support this {kind} model: .*{reason}") as caught:
        wand.apply_window(model, 4)
    assert "\n" not in str(caught.value)
    assert model.config._attn_implementation == before


def speech_lm(kind: str, changes: dict[str, Any] | None = None) -> CausalSpeechLM:
    config = {**config_of(kind, changes).to_diff_dict(), "model_type": kind}
    return CausalSpeechLM(architecture={"config": config, "format": asdict(FORMAT), "dtype": "float32"})


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "deepseek_v3"])
def test_a_speech_model_takes_right_bodies(kind: str) -> None:
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0) if kind == "gpt2" else {}
    assert speech_lm(kind, dropout).decoder.config.model_type == kind


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        *(("mistral", "sliding_window 16"), ("gemma2", "softcap"), ("mamba", "AttentionInterface")),
        *(("roberta", "numbers its positions"), ("phi", "bias"), ("cohere", "scale or soft cap")),
    ],
)
def test_a_speech_model_refuses_other_bodies(kind: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        speech_lm(kind)


def test_a_text_beyond_the_models_own_window_is_refused() -> None:
    """A window that exceeds the longest text never acts; a longer text would need it."""
    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = MistralConfig(**sizes, **heads, sliding_window=20, max_position_embeddings=20)
    windowed = wand.apply_window(MistralForCausalLM(config), 4)
    windowed(input_ids=torch.ones(1, 20, dtype=torch.long), boundary=5)
    with pytest.raises(ValueError, match="21 columns exceed the model's own sliding_window 20"):
        windowed(input_ids=torch.ones(1, 21, dtype=torch.long), boundary=5)
