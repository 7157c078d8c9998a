"""Exports of wand, opened as they are, speak what wand speaks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference import Reference
from vllm import LLM
from vllm.inputs import TokensPrompt

EXPORTS = os.environ.get("WAND_EXPORTS")
pytestmark = pytest.mark.skipif(EXPORTS is None, reason="`make test-vllm` makes the exports")


@pytest.mark.parametrize("name", ["llasa", "neutts", "orpheus"])
def test_greedy_ids_are_those_of_wand(name: str, start: Callable[..., LLM]) -> None:
    """Stops end it, columns have the ids of their slots, the penalty (the default, and 1.2) counts the speech only."""
    folder = Path(str(EXPORTS)) / name
    expected: list[dict[str, Any]] = json.loads((folder / "spoken.json").read_text())
    llm = start(folder / "out", max_model_len=640, num_gpu_blocks_override=100)
    default = llm.get_default_sampling_params()
    assert default.repetition_penalty == 1
    facts = json.loads((folder / "out" / "speech.json").read_text())
    assert default.temperature == facts["sampling"]["temperature"]
    params = []
    for one in expected:
        own = llm.get_default_sampling_params()
        own.temperature, own.max_tokens = 0.0, one["limit"]
        if one["penalty"] != facts["sampling"]["repetition_penalty"]:
            own.extra_args = {"speech_repetition_penalty": one["penalty"]}
        params.append(own)
    spoken = llm.generate([TokensPrompt(prompt_token_ids=one["prompt"]) for one in expected], params, use_tqdm=False)
    assert [list(one.outputs[0].token_ids) for one in spoken] == [one["speech"] for one in expected]
    assert max(len(one["speech"]) for one in expected) > 10 * facts["window"]


@pytest.mark.parametrize("name", ["llasa", "neutts"])
def test_the_reference_agrees(name: str) -> None:
    """Without penalty, the speech of wand is that of the mask over the ids of the slot."""
    folder = Path(str(EXPORTS)) / name
    facts = json.loads((folder / "out" / "speech.json").read_text())
    (slot,) = facts["slots"]
    allowed = sorted({*(first + i for first, count in slot["codes"] for i in range(count)), *slot["stops"]})
    reference = Reference(folder / "out", facts["window"])
    for one in json.loads((folder / "spoken.json").read_text()):
        if one["penalty"] == 1:
            best = reference.logits(one["prompt"], one["speech"])[:, allowed].argmax(-1)
            assert [allowed[place] for place in best.tolist()] == one["speech"]
