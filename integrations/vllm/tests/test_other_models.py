"""A model without a window, and without speech.json, runs as if the plugin were not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reference import Reference
from speaking import greedy, prompts, scheduler_of, speak
from vllm import LLM
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl
from vllm.v1.kv_cache_interface import FullAttentionSpec


def test_a_model_without_a_window(tiny: Callable[..., Path], start: Callable[..., LLM]) -> None:
    folder = tiny("llama", window=None)
    llm = start(folder, skip_tokenizer_init=True, max_model_len=640, num_gpu_blocks_override=100)
    spoken = speak(llm, prompts(), greedy(100))
    reference = Reference(folder, None)
    assert [reference.first_error(*pair) for pair in zip(prompts(), (one.ids for one in spoken), strict=True)] == [
        None
    ] * len(spoken)
    (manager,) = scheduler_of(llm).kv_cache_manager.coordinator.single_type_managers
    assert type(manager.kv_cache_spec) is FullAttentionSpec
    layers = llm.llm_engine.vllm_config.compilation_config.static_forward_context.values()
    assert {type(layer.impl) for layer in layers} == {CPUAttentionBackendImpl}
