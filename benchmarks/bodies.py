"""Checks windowed attention in every causal body of transformers: ``python -m benchmarks.bodies``.

Each body is built tiny, with a window or chunks of 16 columns if its kind has such, and with weights so large that the
standard deviation of its logits is at least 3. It reads texts of 48 columns. A body is *right* if full attention gives
the logits of the original within 1e-5 of the largest logit, W = 4 changes a logit by more than 0.1, padded prefixes
change nothing, and `generate` speaks what the windowed forward prefers. Else wand must refuse it when the model is
built. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import wand
from wand.attention import AttentionWindow
from wand.console.tables import markdown
from wand.windowed import WindowedModel

PREFIX, WINDOW, COLUMNS, NEW = 6, 4, 48, 12
VOCABULARY = 48
DEVIATION = 3.0

# Settings of configs, by name. A config gets those that it has.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers"), 4),
    **dict.fromkeys(("hidden_size", "intermediate_size", "d_model", "n_embd", "d_ff", "decoder_ffn_dim", "dim_ff"), 64),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "linear_num_key_heads", "linear_num_value_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "linear_conv_kernel_dim"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "num_logits_to_keep"), 2),
    **dict.fromkeys(("encoder_layers", "n_group", "topk_group", "first_k_dense_replace", "num_mem_blocks"), 1),
    **dict.fromkeys(("head_dim", "v_head_dim", "linear_key_head_dim", "linear_value_head_dim", "mamba_d_state"), 16),
    **dict.fromkeys(("mamba_headdim", "mamba_d_head", "state_size", "chunk_size", "mamba_chunk_size"), 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "sliding_window", "attention_chunk_size", "window_size"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "mamba_n_heads"), 8),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "encoder_ffn_dim", "ffn_dim"), 32),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions"), 512),
    **dict.fromkeys(("attention_dropout", "dropout", "layerdrop", "decoder_layerdrop"), 0.0),
    **{"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "is_decoder": True},
    **{"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "mamba_ngroups": 1},
    **{"linear_head_dim": 16, "linear_num_heads": 4, "num_experts_per_token": 2, "mamba_d_ssm": 64},
}
# What a kind of body needs besides.
SPECIAL: dict[str, dict[str, Any]] = {
    **{
        kind: {"num_key_value_heads": 4, "head_dim": 8}
        for kind in (
            *("axk1", "axk2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "longcat_flash", "youtu"),
        )
    },
    **{kind: {"num_key_value_heads": 4} for kind in ("deepseek_v2", "minicpm3")},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "xmod": {"default_language": "en_XX"},
    "falcon_h1": {"mamba_d_head": 8},
    "dbrx": {"attn_config": {"kv_n_heads": 2}, "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
}
# Other configs of a kind: its own window, chunks, soft cap and so on switched off, or on.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {"sliding_window": None}) for kind in ("mistral", "mixtral", "phi3", "starcoder2", "ministral", "phimoe")),
    *((kind, {"sliding_window": 512}) for kind in ("mistral", "phi3")),
    *((kind, {"use_sliding_window": True, "max_window_layers": 2}) for kind in ("qwen2", "qwen3")),
    *((kind, {"is_decoder": False}) for kind in ("bert", "roberta")),
    *(
        (kind, {"layer_types": ["full_attention"] * 4})
        for kind in ("gemma3_text", "cohere2", "olmo3", "exaone4", "llama4_text", "qwen3_next", "lfm2", "gpt_oss")
    ),
    ("gemma2", {"layer_types": ["full_attention"] * 4, "attn_logit_softcapping": None}),
    ("gemma2", {"layer_types": ["full_attention"] * 4}),
    ("gemma2", {"attn_logit_softcapping": None}),
    ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt2", {"reorder_and_upcast_attn": True}),
    ("gpt2", {"add_cross_attention": True}),
    *(("falcon", {"alibi": alibi}) for alibi in (False, True)),
]


class Verdict(NamedTuple):
    """What was found about one body."""

    kind: str
    outcome: str
    """``right``, ``refused``, ``wrong`` or ``not built``."""
    reason: str


def config_of(kind: str, changes: dict[str, Any] | None = None) -> PretrainedConfig:
    """A tiny config of a model type."""
    cls = CONFIG_MAPPING[kind]
    return cls(**{**_settings(cls), **SPECIAL.get(kind, {}), **(changes or {})})


def _settings(cls: type[PretrainedConfig]) -> dict[str, Any]:
    names = {*cls().to_dict(), *(cls.attribute_map or {})}
    settings = {name: value for name, value in SIZES.items() if name in names}
    # Old configs know a size by two names. Theirs is enough.
    settings = {name: value for name, value in settings.items() if cls.attribute_map.get(name) not in settings}
    for name, inner in cls.sub_configs.items():
        if name in ("text_config", "decoder") and hasattr(inner, "to_dict"):
            settings[name] = _settings(inner)
    return settings


def build(kind: str, changes: dict[str, Any] | None = None) -> tuple[PreTrainedModel, Tensor]:
    """A tiny model of a type whose logits vary, and texts ``[2, S]``."""
    torch.manual_seed(0)
    config = config_of(kind, changes)
    with torch.device("meta"):
        size = sum(weights.numel() for weights in AutoModelForCausalLM.from_config(config).parameters())
    if size > 2e7:
        raise ValueError(f"it has {size:,} weights at the least")
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    ids = torch.randint(3, VOCABULARY, (2, COLUMNS))
    return scaled(model, ids), ids


@torch.no_grad()
def scaled(model: PreTrainedModel, ids: Tensor) -> PreTrainedModel:
    """The model with larger weights, so that attention and logits are far from uniform."""
    weights = [(weight, weight.clone()) for weight in model.parameters() if weight.ndim >= 2]
    for step in range(30):
        if float(model(input_ids=ids, use_cache=False).logits.std()) >= DEVIATION:
            return model
        for weight, first in weights:
            weight.copy_(first * 1.3 ** (step + 1))
    raise ValueError(f"its logits do not reach a standard deviation of {DEVIATION}")


@torch.no_grad()
def judge(model: PreTrainedModel, ids: Tensor, generates: bool = True) -> tuple[str, str]:
    """Put a model under a window. Returns the outcome and its reason."""
    original = model(input_ids=ids, use_cache=False).logits
    quirks = _quirks(model, ids)
    try:
        windowed = wand.apply_window(model, WINDOW)
    except ValueError as error:
        return "refused", str(error).partition("model: ")[2] or str(error)
    try:
        full = windowed(input_ids=ids, boundary=PREFIX, window=AttentionWindow()).logits
        limited = windowed(input_ids=ids, boundary=PREFIX).logits
        off = float((full - original).abs().max() / original.abs().max())
        change = float((limited - full).abs().max())
        if off > 1e-5 or change <= 0.1:
            return "wrong", f"full attention is off by {off:.0e}, the window changes {change:.2f}"
        padded = _padding(windowed, ids)
        spoken = _generation(windowed, ids) if generates else ""
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    notes = [note for note in (padded, spoken) if note]
    if any("wrong" in note for note in notes) and not quirks:
        return "wrong", "; ".join(notes)
    return "right", quirks or "; ".join(notes)


def _quirks(model: PreTrainedModel, ids: Tensor) -> str:
    """What the original itself does otherwise with padding, or in `generate`, than in a plain forward pass."""
    if model.config.model_type == "hrm_text":
        mask = torch.ones_like(ids)
        mask[1, :2] = 0
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        padded = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits[1:, 2:]
        alone = model(input_ids=ids[1:, 2:], use_cache=False).logits
        return "" if torch.allclose(padded, alone, atol=1e-3) else "padding changes the logits of the original too"
    if model.config.model_type == "moshi":
        options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        spoken = model.generate(ids[:, :PREFIX], **options)  # type: ignore[operator]
        preferred = model(input_ids=spoken, use_cache=False).logits[:, PREFIX - 1 : -1].argmax(-1)
        return "" if torch.equal(preferred, spoken[:, PREFIX:]) else "generate of the original differs too"
    return ""


def _padding(windowed: WindowedModel, ids: Tensor) -> str:
    """A padded row gives what it gives alone."""
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    alone = windowed(input_ids=ids[1:, 2:], boundary=PREFIX - 2).logits
    try:
        together = windowed(input_ids=ids.where(mask > 0, 0), attention_mask=mask, boundary=PREFIX).logits
    except ValueError as error:
        return f"padding is refused: {error}"
    off = float((together[1:, 2:] - alone).abs().max() / alone.abs().max())
    return "" if off <= 1e-4 else f"wrong: padding changes the logits by {off:.0e}"


def _generation(windowed: WindowedModel, ids: Tensor) -> str:
    """What `generate` speaks is what the windowed forward prefers."""
    options: dict[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    try:
        spoken = windowed.generate(ids[:, :PREFIX], max_new_tokens=NEW, **options)
    except ValueError as error:
        return f"generate is refused: {error}"
    logits = windowed(input_ids=spoken, boundary=PREFIX).logits[:, PREFIX - 1 : -1]
    chosen = logits.gather(2, spoken[:, PREFIX:, None])[..., 0]
    off = float((logits.amax(-1) - chosen).max() / logits.abs().max())
    return "" if off <= 1e-4 else f"wrong: generate speaks tokens that are {off:.0e} from the preferred ones"


def verdict(kind: str, changes: dict[str, Any] | None = None) -> Verdict:
    """Build a body and judge it."""
    named = kind + "".join(f", {name} {value}" for name, value in (changes or {}).items())
    try:
        model, ids = build(kind, changes)
    except Exception as error:  # a config that does not fit this table raises anything
        return Verdict(named, "not built", f"{type(error).__name__}: {' '.join(str(error).split())[:100]}")
    return Verdict(named, *judge(model, ids))


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """The table and the counts."""
    rows = [[made.kind, made.outcome, made.reason.replace("|", "/")] for made in verdicts]
    counts = Counter(made.outcome for made in verdicts)
    order = ("right", "refused", "not built", "wrong")
    summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in order)
    return f"{markdown(['model type', 'outcome', 'reason'], rows)}\n\n{summary}."


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help="model types; all causal ones by default")
    chosen = parser.parse_args().kinds
    transformers.logging.set_verbosity_error()
    asked: list[tuple[str, dict[str, Any]]] = [(kind, {}) for kind in chosen or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    verdicts = []
    for kind, changes in [*asked, *([] if chosen else VARIANTS)]:
        verdicts.append(verdict(kind, changes))
        print(verdicts[-1], flush=True)
    print(to_markdown(verdicts))


if __name__ == "__main__":
    main()
