"""Fixtures that several rooms share: tiny models with random weights, tiny codecs, seeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch
from hypothesis import settings
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
)

from wand.attention import use_wand_attention
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs.reference import Reference
from wand.model.batch import ConditionedBatch, make_batch

pytest_plugins = ["tests.pretended_gpu", "tests.workplace"]
pytest.register_assert_rewrite("wand.testing", "tests.backbones.contract")
settings.register_profile("wand", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("wand")
torch.set_num_threads(1)

TINY = EncodecLMArchitecture(
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    num_codebooks=3,
    codebook_size=16,
    reference_seconds=0.1,
)
WIDTH = 32
# Folders with the slowest files. They begin, so that no process has a long file left when the others have ended.
SLOWEST = ("cli", "recipes", "tests", "runs", "codecs", "speech")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest folders first. Files stay together."""
    items.sort(key=lambda item: [folder != item.path.parent.name for folder in SLOWEST])


def _llama_like(config: type, **extra: int) -> dict[str, int | float]:
    return config(
        vocab_size=8,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        # Large enough for attention to matter.
        initializer_range=0.2,
        **extra,
    )


BODIES: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2-gqa": lambda: Qwen2Model(_llama_like(Qwen2Config, num_key_value_heads=2)),
    "llama": lambda: LlamaModel(_llama_like(LlamaConfig, num_key_value_heads=4)),
    "gpt2": lambda: GPT2Model(
        GPT2Config(
            vocab_size=8,
            n_embd=WIDTH,
            n_layer=2,
            n_head=4,
            n_positions=256,
            initializer_range=0.2,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
        )
    ),
}


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes into the user's cache or record of runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAND_CACHE", str(tmp_path_factory.mktemp("wand-cache")))
        patch.setenv("WAND_STATE", str(tmp_path_factory.mktemp("wand-state")))
        yield


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Lightning sets variables (MASTER_PORT, PL_GLOBAL_SEED) that a later command would read."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(params=list(BODIES))
def body(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A transformers decoder with random weights, switched to windowed attention."""
    torch.manual_seed(0)
    decoder = BODIES[request.param]().eval()
    use_wand_attention(decoder)
    return decoder


@pytest.fixture(scope="session")
def tiny_architecture() -> EncodecLMArchitecture:
    return TINY


@pytest.fixture
def tiny_lm() -> EncodecLM:
    """EncodecLM with random weights, in eval mode."""
    torch.manual_seed(0)
    return sharpened(EncodecLM(architecture=TINY)).eval()


def sharpened(lm: EncodecLM) -> EncodecLM:
    """The same model with weights so large that what it attends to changes what it says."""
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return lm


@pytest.fixture
def random_batch() -> Callable[..., ConditionedBatch]:
    """Batches of random codes for an `EncodecLM`: ``random_batch(lm, texts, frames)``."""

    def make(lm: EncodecLM, texts: tuple[str, ...] = ("a", "hello", "no"), frames: int | None = 20) -> ConditionedBatch:
        conditionings = [lm.conditioner(text, Reference(random_codes(lm, 3 + row))) for row, text in enumerate(texts)]
        codes = None if frames is None else [random_codes(lm, frames - 2 * row) for row in range(len(texts))]
        return make_batch(lm.conditioner, lm.layout, conditionings, codes)

    return make


def random_codes(lm: EncodecLM, frames: int) -> Tensor:
    return torch.randint(0, lm.shape.codebook_size, (lm.num_codebooks, frames))
