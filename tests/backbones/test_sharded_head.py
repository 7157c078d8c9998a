"""The head of a sharded `CausalSpeechLM` is made from the weights of the moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.backbones.test_causal_lm import make_model, voice
from wand.attention import AttentionWindow
from wand.testing import batch_of, one_process


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
@torch.no_grad()
def test_rows_are_gathered_anew(tmp_path: Path) -> None:
    lm = make_model(tmp_path, "neutts", True).eval()
    batch = batch_of(lm, [(lm.conditioner("no", voice("neutts")), voice("neutts").codes)])
    expected = lm.speech_head().weight
    assert lm.speech_head().weight is expected, "unsharded, they are gathered once"
    with one_process() as mesh:
        lm.parallelize(mesh)
        first, second = (lm.head_input(batch, AttentionWindow()).head.weight for _ in range(2))
    # FSDP2 writes new weights to the same memory and counts no version, so that a change could not be seen.
    assert first is not second
    assert torch.equal(first, expected)
