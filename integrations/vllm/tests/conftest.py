"""Engines in this process, so that a test can read the scheduler's tables, and tiny random models for them."""

from __future__ import annotations

import os

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from speaking import WINDOW
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
from vllm import LLM
from vllm.distributed import cleanup_dist_env_and_memory

SIZES = {
    **{"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 4096},
}
KINDS = {"qwen2": Qwen2Config, "llama": LlamaConfig}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny random model with a window. Large weights make its speech vary."""

    def write(kind: str, window: int | None = WINDOW) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        config = KINDS[kind](**SIZES, initializer_range=0.2, rswa_window=window)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., LLM]]:
    """Start an engine, which ends with the module."""

    def begin(folder: Path, **settings: Any) -> LLM:
        return LLM(
            model=str(folder),
            dtype="float32",
            enforce_eager=True,
            distributed_executor_backend="uni",
            block_size=32,
            max_num_seqs=8,
            **settings,
        )

    yield begin
    cleanup_dist_env_and_memory()
