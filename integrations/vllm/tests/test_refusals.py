"""What vLLM is not started with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from speaking import WINDOW
from test_facts import VALUES
from vllm import LLM, EngineArgs

from wand_vllm.refusals import check_backend, check_model


def settings(folder: Path, **options: Any) -> Any:
    return EngineArgs(model=str(folder), skip_tokenizer_init=True, max_model_len=640, **options).create_engine_config()


@pytest.fixture(scope="module")
def model(tiny: Callable[..., Path]) -> Path:
    return tiny("qwen2")


def write_facts(folder: Path, window: object) -> Path:
    (folder / "speech.json").write_text(json.dumps({**VALUES, "model": ".", "window": window}))
    return folder


def test_what_is_allowed(model: Path, tmp_path: Path) -> None:
    check_model(settings(model))
    check_model(settings(write_facts(Path(shutil.copytree(model, tmp_path / "a")), WINDOW)))


def test_speculative_decoding(model: Path) -> None:
    drafts = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}
    with pytest.raises(ValueError, match="leave out --speculative-config"):
        check_model(settings(model, speculative_config=drafts))


def test_a_window_that_vllm_does_not_know(model: Path, tmp_path: Path) -> None:
    folder = write_facts(Path(shutil.copytree(model, tmp_path / "b")), WINDOW + 1)
    with pytest.raises(ValueError, match=f"window {WINDOW + 1} in speech.json and rswa_window {WINDOW}"):
        check_model(settings(folder))


def test_windows_by_layer_when_the_engine_starts(
    tiny: Callable[..., Path], tmp_path: Path, start: Callable[..., LLM]
) -> None:
    """wand writes no rswa_window for them, so that vLLM alone would speak with full attention."""
    folder = write_facts(Path(shutil.copytree(tiny("qwen2", window=None), tmp_path / "c")), [16, 32])
    with pytest.raises(ValueError, match=r"a window for each layer, \[16, 32\]: .*use wand serve"):
        start(folder, skip_tokenizer_init=True, max_model_len=640, num_gpu_blocks_override=50)


@pytest.mark.parametrize(
    ("name", "version"), [("TRITON_ATTN", None), ("FLEX_ATTENTION", None), ("FLASH_ATTN", 4), ("CPU_ATTN", None)]
)
def test_back_ends_with_the_mask(name: str, version: int | None) -> None:
    check_backend(name, version, WINDOW)


@pytest.mark.parametrize(("name", "version"), [("FLASH_ATTN", 2), ("FLASH_ATTN", 3), ("FLASHINFER", None)])
def test_back_ends_without_it(name: str, version: int | None) -> None:
    with pytest.raises(ValueError, match=rf"{name}.* ignores the window of 32 columns: .*TRITON_ATTN"):
        check_backend(name, version, WINDOW)
