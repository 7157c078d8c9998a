"""Greedy speech of an engine in this process, and what its scheduler holds meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt
from vllm.v1.core.sched.scheduler import Scheduler

WINDOW = 32
LENGTHS = (5, 20, 32, 33, 64, 100, 131, 200)
_numbers = itertools.count()


@dataclass
class Spoken:
    """The speech of a request.

    Args:
        ids: Its ids.
        cached: Number of ids of the prompt that were found in the prefix cache.
        held: Blocks that the request held after each step, by number of columns.
        preemptions: How often the request was preempted.
    """

    ids: list[int] = field(default_factory=list)
    cached: int = 0
    held: dict[int, int] = field(default_factory=dict)
    preemptions: int = 0


def scheduler_of(llm: LLM) -> Scheduler:
    scheduler = llm.llm_engine.engine_core.engine_core.scheduler
    assert isinstance(scheduler, Scheduler)
    return scheduler


def prompts(vocabulary: int = 160, seed: int = 1) -> list[list[int]]:
    drawn = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocabulary, (length,), generator=drawn).tolist() for length in LENGTHS]


def greedy(columns: int, **options: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=columns, ignore_eos=True, detokenize=False, **options)


def speak(
    llm: LLM,
    asked: Sequence[list[int]],
    params: SamplingParams,
    after_step: Callable[[int], object] = lambda step: None,
) -> list[Spoken]:
    """Speak prompts side by side.

    Args:
        llm: The engine.
        asked: The prompts.
        params: For all of them.
        after_step: Is called with the number of the step.
    """
    scheduler, engine = scheduler_of(llm), llm.llm_engine
    (manager,) = scheduler.kv_cache_manager.coordinator.single_type_managers
    own = {f"r{next(_numbers)}": Spoken() for _ in asked}
    for name, prompt in zip(own, asked, strict=True):
        engine.add_request(name, TokensPrompt(prompt_token_ids=prompt), params)
    for step in itertools.count():
        if all(one.ids for one in own.values()):
            return list(own.values())
        for output in engine.step():
            if output.finished and output.request_id in own:
                one = own[output.request_id]
                one.ids, one.cached = list(output.outputs[0].token_ids), output.num_cached_tokens or 0
        for request in scheduler.requests.values():
            one = own.get(request.request_id.split("-")[0])
            if one is not None:
                blocks = manager.req_to_blocks.get(request.request_id, ())
                one.held[request.num_output_tokens] = sum(not block.is_null for block in blocks)
                one.preemptions = request.num_preemptions
        after_step(step)
    raise AssertionError
