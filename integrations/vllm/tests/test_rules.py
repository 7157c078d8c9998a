"""The logits that the processors of both model runners give, against loops over ids."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_facts import VALUES, write
from torch import Tensor
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext, LogitsProcRequestState

from wand_vllm.facts import read_facts
from wand_vllm.rules import SpeechRules
from wand_vllm.speech import SpeechLogitsProcessor

VOCABULARY = 40
PROMPTS = [[5, 6, 7], [1], [20, 30]]
SPEECHES = [[5, 30, 7, 30], [], [20]]
PENALTIES = [1.3, 2.0, 1.0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path) / "LLM"


def settings(folder: Path) -> Any:
    model = SimpleNamespace(model=str(folder), get_vocab_size=lambda: VOCABULARY)
    return SimpleNamespace(model_config=model, scheduler_config=SimpleNamespace(async_scheduling=False))


def params(penalty: float) -> SamplingParams:
    return SamplingParams(extra_args=None if penalty == 1.3 else {"speech_repetition_penalty": penalty})


def expected(logits: Tensor) -> Tensor:
    out = torch.full_like(logits, -torch.inf)
    slots = [(5, 6, 7, 20, 21, 9), (30,)]
    for row, (speech, penalty) in enumerate(zip(SPEECHES, PENALTIES, strict=True)):
        for id in slots[len(speech) % 2]:
            value = float(logits[row, id]) + {5: 0.5, 6: -1.0}.get(id, 0.0)
            if id in speech or id == 6:
                value = value / penalty if value > 0 else value * penalty
            out[row, id] = value
    return out


def test_runner_v1(folder: Path) -> None:
    processor = SpeechLogitsProcessor(settings(folder), torch.device("cpu"), False)
    added = [(i, params(penalty), PROMPTS[i], SPEECHES[i]) for i, penalty in enumerate(PENALTIES)]
    processor.update_state(BatchUpdate(3, removed=[], added=added, moved=[]))
    logits = torch.randn(3, VOCABULARY)
    torch.testing.assert_close(processor.apply(logits.clone()), expected(logits))
    assert not processor.is_argmax_invariant()


def test_runner_v2(folder: Path) -> None:
    """Rows of the batch are in another order than the places of the requests."""
    places, longest = [4, 0, 2], 9
    ids = torch.full((5, 12), 31)  # left from earlier requests
    prompt_lengths, lengths = torch.zeros(5, dtype=torch.int32), torch.zeros(5, dtype=torch.int32)
    for place, prompt, speech in zip(places, PROMPTS, SPEECHES, strict=True):
        both = [*prompt, *speech]
        ids[place, : len(both)] = torch.tensor(both)
        prompt_lengths[place], lengths[place] = len(prompt), len(both)
    tensors = {
        name: SimpleNamespace(gpu=tensor)
        for name, tensor in {"all_token_ids": ids, "prompt_len": prompt_lengths, "total_len": lengths}.items()
    }
    held: dict[str, Any] = {**tensors, "prefill_len": None}
    states = LogitsProcRequestState(torch.device("cpu"), 5, VOCABULARY, **held)
    processor = SpeechLogitsProcessor(settings(folder), states)
    for place, penalty in zip(places, PENALTIES, strict=True):
        assert processor.add_request(place, params(penalty))
    rows = torch.tensor(places, dtype=torch.int32)
    ends = lengths[rows.long()]
    unused: Any = None
    context = LogitsContext(rows, rows, rows.numpy(), unused, unused, ends - 1, np.array([longest]))
    logits = torch.randn(3, VOCABULARY)
    torch.testing.assert_close(processor.apply(logits.clone(), context), expected(logits))


def test_a_model_without_facts_keeps_its_logits(tmp_path: Path) -> None:
    processor = SpeechLogitsProcessor(settings(tmp_path), torch.device("cpu"), False)
    logits = torch.randn(2, VOCABULARY)
    assert torch.equal(processor.apply(logits.clone()), logits)
    assert processor.is_argmax_invariant()


def test_runner_v1_must_tell_what_was_spoken(folder: Path) -> None:
    ahead = settings(folder)
    ahead.scheduler_config.async_scheduling = True
    with pytest.raises(ValueError, match="--no-async-scheduling"):
        SpeechLogitsProcessor(ahead, torch.device("cpu"), False)


@pytest.mark.parametrize("value", [0, -1.0, "2", True, float("nan"), float("inf")])
def test_a_penalty_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"speech_repetition_penalty .* no positive number"):
        SpeechLogitsProcessor.validate_params(SamplingParams(extra_args={"speech_repetition_penalty": value}))


def test_ids_beyond_the_vocabulary_are_refused(folder: Path) -> None:
    facts = read_facts(str(folder))
    assert facts is not None
    with pytest.raises(ValueError, match="names the id 30, but the model has 30"):
        SpeechRules(facts, 30, torch.device("cpu"))
    assert VALUES["slots"]
