"""Exports of wand, opened as they are, speak what wand speaks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vllm import LLM
from vllm.inputs import TokensPrompt

EXPORTS = os.environ.get("WAND_EXPORTS")
pytestmark = pytest.mark.skipif(EXPORTS is None, reason="`make test-vllm` makes the exports")


@pytest.mark.parametrize("name", ["llasa", "neutts", "orpheus", "cosyvoice2"])
def test_greedy_ids_are_those_of_wand(name: str, start: Callable[..., LLM]) -> None:
    """Stops end it, columns have the ids of their slots, the head its bias, and the penalty counts the speech."""
    folder = Path(str(EXPORTS)) / name
    facts = json.loads((folder / "out" / "speech.json").read_text())
    known: list[dict[str, Any]] = json.loads((folder / "spoken.json").read_text())
    # Before the least length, wand holds back one stop of CosyVoice, and `min_tokens` holds back all.
    expected = [one for one in known if len(one["speech"]) >= one["least"]]
    assert len(expected) >= 9
    llm = start(folder / "out" / facts["model"], max_model_len=640, num_gpu_blocks_override=200)
    default = llm.get_default_sampling_params()
    assert default.repetition_penalty == 1  # vLLM's own counts the prompt
    assert default.temperature == facts["sampling"]["temperature"]
    params = []
    for one in expected:
        own = llm.get_default_sampling_params()
        own.temperature, own.min_tokens, own.max_tokens = 0.0, one["least"], one["most"]
        if one["penalty"] != facts["sampling"]["repetition_penalty"]:
            own.extra_args = {"speech_repetition_penalty": one["penalty"]}
        params.append(own)
    answers = llm.generate([TokensPrompt(prompt_token_ids=one["prompt"]) for one in expected], params, use_tqdm=False)
    spoken = [list(answer.outputs[0].token_ids) for answer in answers]
    stops = {id for slot in facts["slots"] for id in slot["stops"]}
    assert [ids[-1] in stops for ids in spoken] == [one["stopped"] for one in expected]
    assert [ids[: len(ids) - one["stopped"]] for ids, one in zip(spoken, expected, strict=True)] == [
        one["speech"] for one in expected
    ]
    assert max(map(len, spoken)) > 2 * facts["window"]
