"""Greedy speech over ten windows, eight requests side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from reference import Reference
from speaking import LENGTHS, WINDOW, Spoken, greedy, prompts, scheduler_of, speak
from vllm import LLM

COLUMNS = 10 * WINDOW
BLOCK = 32


@pytest.fixture(scope="module")
def model(tiny: Callable[..., Path]) -> Path:
    return tiny("qwen2")


@pytest.fixture(scope="module")
def llm(model: Path, start: Callable[..., LLM]) -> LLM:
    return start(model, skip_tokenizer_init=True, max_model_len=1024, num_gpu_blocks_override=200)


@pytest.fixture(scope="module")
def spoken(llm: LLM) -> list[Spoken]:
    return speak(llm, prompts(), greedy(COLUMNS))


def errors(model: Path, window: int | None, asked: Sequence[list[int]], spoken: Sequence[Spoken]) -> list[int | None]:
    reference = Reference(model, window)
    return [reference.first_error(prompt, one.ids) for prompt, one in zip(asked, spoken, strict=True)]


def test_speech_is_that_of_the_mask(model: Path, spoken: list[Spoken]) -> None:
    assert [len(one.ids) for one in spoken] == [COLUMNS] * len(LENGTHS)
    assert all(len(set(one.ids)) > 20 for one in spoken)  # not one loop
    assert errors(model, WINDOW, prompts(), spoken) == [None] * len(LENGTHS)


def test_it_is_not_that_of_full_attention_or_of_another_window(model: Path, spoken: list[Spoken]) -> None:
    for window in (None, WINDOW - 1, WINDOW + 1):
        wrong = errors(model, window, prompts(), spoken)
        assert all(column is not None and column >= WINDOW - 1 for column in wrong)


def test_the_blocks_that_it_holds_do_not_grow(spoken: list[Spoken]) -> None:
    for length, one in zip(LENGTHS, spoken, strict=True):
        most = -(-length // BLOCK) + WINDOW // BLOCK + 1
        assert max(one.held.values()) <= most
        later = [held for column, held in one.held.items() if column > 2 * WINDOW]
        assert len(later) > 200
        assert min(later) >= most - 1


def test_prompts_that_continue_a_speech_find_only_prompts_in_the_cache(
    model: Path, llm: LLM, spoken: list[Spoken]
) -> None:
    """Keys of a speech depend on its window; in a prompt the same ids see everything before them."""
    asked = [[*prompt, *one.ids[:150]] for prompt, one in zip(prompts(), spoken, strict=True)]
    second = speak(llm, asked, greedy(100))
    assert errors(model, WINDOW, asked, second) == [None] * len(LENGTHS)
    assert [one.cached for one in second] == [length // BLOCK * BLOCK for length in LENGTHS]


def test_a_preempted_speech_goes_on_as_if_nothing_had_happened(llm: LLM, spoken: list[Spoken]) -> None:
    def preempt(step: int) -> None:
        if step == 150:
            assert scheduler_of(llm).reset_prefix_cache(reset_running_requests=True)

    again = speak(llm, prompts(), greedy(COLUMNS), preempt)
    assert [one.preemptions for one in again] == [1] * len(LENGTHS)
    assert [one.ids for one in again] == [one.ids for one in spoken]


def test_a_preempted_speech_finds_no_prompt_that_continues_it(llm: LLM, spoken: list[Spoken]) -> None:
    """Another request had the first columns of the speech as its prompt: with other keys, and in the cache."""
    assert llm.reset_prefix_cache()
    prompt, whole = prompts()[4], spoken[4].ids
    continued: list[Spoken] = []

    def preempt(step: int) -> None:
        scheduler = scheduler_of(llm)
        if step == 140 and not continued:
            continued.extend(speak(llm, [[*prompt, *whole[:128]]], greedy(2)))
            assert continued[0].cached == 64
            (request,) = scheduler.running
            scheduler.running.remove(request)
            scheduler._preempt_request(request, 0.0)
            scheduler.prev_step_scheduled_req_ids.clear()

    (again,) = speak(llm, [prompt], greedy(COLUMNS), preempt)
    assert again.preemptions == 1
    assert again.ids == whole
