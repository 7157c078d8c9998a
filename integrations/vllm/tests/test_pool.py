"""A pool of blocks that does not hold all requests, and prompts that are read in pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from reference import Reference
from speaking import LENGTHS, WINDOW, greedy, prompts, scheduler_of, speak
from vllm import LLM

BLOCKS = 22  # all at once would hold 39


@pytest.fixture(scope="module")
def model(tiny: Callable[..., Path]) -> Path:
    return tiny("llama")


@pytest.fixture(scope="module")
def llm(model: Path, start: Callable[..., LLM]) -> LLM:
    small = {"max_model_len": 640, "num_gpu_blocks_override": BLOCKS, "max_num_batched_tokens": 48}
    return start(model, skip_tokenizer_init=True, enable_chunked_prefill=True, **small)


def test_requests_wait_and_none_is_preempted(model: Path, llm: LLM) -> None:
    waited: list[int] = []
    spoken = speak(llm, prompts(), greedy(330), lambda step: waited.append(len(scheduler_of(llm).waiting)))
    assert max(waited[20:]) > 0
    assert [one.preemptions for one in spoken] == [0] * len(LENGTHS)
    reference = Reference(model, WINDOW)
    wrong = [reference.first_error(prompt, one.ids) for prompt, one in zip(prompts(), spoken, strict=True)]
    assert wrong == [None] * len(LENGTHS)


def test_a_speech_that_needs_the_whole_pool_is_spoken_alone(model: Path, llm: LLM) -> None:
    """Prompt, window and the block between them are more than the pool, but the speech ends before it needs them."""
    long = (prompts()[7] * 4)[:620]
    (one,) = speak(llm, [long], greedy(20))
    assert Reference(model, WINDOW).first_error(long, one.ids) is None
