"""Passages with CUDA graphs: what eager steps speak, where the heads look by themselves and where a test lets them."""

from __future__ import annotations

import pytest
import torch

from tests.cuda.test_decoding import Eager
from tests.decoding.test_passages import SECOND
from tests.passages.engines import SHORT, WINDOW, speak
from tests.passages.readers import RULES, look_at, passage, passage_speaker
from wand.backbones.encodec_lm import EncodecLM
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Engine
from wand.decoding.requests import Request
from wand.decoding.stopping import StopRules


@pytest.fixture
def lm(device: torch.device) -> EncodecLM:
    return passage_speaker().to(device)


@pytest.mark.parametrize("steered", [False, True], ids=["own looks", "steered looks"])
def test_graphs_speak_the_passages_of_eager_steps(
    lm: EncodecLM, steered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows that move at different steps."""
    if steered:
        look_at(monkeypatch)
    spoken = []
    for kind in (Decoder, Eager):
        engine = Engine(kind(lm, WINDOW), rows=2, prefix_length=100, rules=StopRules(30), passages=RULES, sampling=None)
        spoken.append(speak(engine, [Request(passage(lm, text), seed=i) for i, text in enumerate((SHORT, SECOND))]))
    for own, expected in zip(*spoken, strict=True):
        assert torch.equal(own[0], expected[0])
        assert (own[1].reason, own[1].words, own[1].faults) == (
            expected[1].reason, expected[1].words, expected[1].faults,
        )  # fmt: skip
