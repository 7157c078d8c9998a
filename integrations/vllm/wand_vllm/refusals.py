"""Settings under which vLLM would ignore the window, refused when it starts."""

from __future__ import annotations

from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec

from wand_vllm.facts import read_facts

# Attention back ends whose kernels know the window. CPU_ATTN is this plugin's own.
MASKED = ("CPU_ATTN", "TRITON_ATTN", "FLEX_ATTENTION")


def check_model(config: VllmConfig) -> None:
    """Check that vLLM knows the window of an export, and that no setting replaces its way of decoding.

    Raises:
        ValueError: If the window differs by layer or is not in ``config.json``, or decoding is speculative.
    """
    model, window = config.model_config.model, config.model_config.rswa_window
    facts = read_facts(model)
    if facts is not None and isinstance(facts.window, list):
        raise ValueError(f"{model} has a window for each layer, {facts.window}: vLLM has one for all; use wand serve")
    if facts is not None and facts.window != window:
        raise ValueError(
            f"{model} has the window {facts.window} in speech.json and rswa_window {window} in config.json or "
            "--hf-overrides: make them equal"
        )
    if config.speculative_config is not None and (window is not None or facts is not None):
        raise ValueError(f"{model} cannot be decoded speculatively: leave out --speculative-config")


def check_attention(layer: Attention, window: int, stock: KVCacheSpec) -> None:
    """Check that the attention of a layer is plain, and that its back end knows the window.

    Raises:
        ValueError: If it does not.
    """
    if type(stock) is not FullAttentionSpec:
        raise ValueError(
            f"{layer.layer_name} has {type(stock).__name__} instead of full attention: the model's rswa_window "
            f"{window} cannot be applied to it"
        )
    check_backend(layer.attn_backend.get_name(), getattr(layer.impl, "vllm_flash_attn_version", None), window)


def check_backend(name: str, flash_version: int | None, window: int) -> None:
    """Check that an attention back end knows the window.

    Args:
        name: Its name in vLLM.
        flash_version: The version of FlashAttention that it runs; None if it runs none.
        window: W in columns.

    Raises:
        ValueError: If it ignores the window without a word.
    """
    if name in MASKED or (name == "FLASH_ATTN" and flash_version == 4):
        return
    called = name if flash_version is None else f"{name} (version {flash_version})"
    raise ValueError(
        f"the attention back end {called} ignores the window of {window} columns: start vLLM with "
        "--attention-backend TRITON_ATTN"
    )
