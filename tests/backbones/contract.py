"""The conformance suite of `wand.testing`, and that an adapter keeps to the device of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from wand.attention import AttentionWindow
from wand.codecs.reference import Reference
from wand.decoding import decoder
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.distillation.losses import IGNORE
from wand.distillation.terms import LossTerms
from wand.lean import body
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch, Conditioner
from wand.model.text_tokens import PassageConditioner, TextTokens
from wand.testing import BackboneContract
from wand.training.teacher import COPY, build_teacher

LONGEST = 12  # columns


def losses(backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, mixed: bool) -> list[float]:
    """The sums of a training step under a soft window; the teacher's are those of full attention."""
    weights = (batch.labels != IGNORE).float()
    teacher = build_teacher(COPY, backbone)
    with torch.autocast(backbone.device.type, torch.bfloat16, enabled=mixed):
        expected = teacher.head_input(batch)
        sums = backbone.head_input(batch, window).loss(batch.labels, weights, LossTerms(), expected)
    assert {value.dtype for value in sums} == {torch.float32}
    assert {value.device for value in sums} == {backbone.device}
    return [float(value.detach()) for value in sums]


def columns_of_tokens(conditioner: Conditioner, text: str, reference: Reference) -> tuple[TextTokens, int, int]:
    """Check that a prefix from tokens is that of the text. Returns the tokens and their columns."""
    assert isinstance(conditioner, PassageConditioner)
    tokens = conditioner.tokens(conditioner.opening(reference) + text)
    made, expected = conditioner.with_tokens(tokens.ids, reference), conditioner(text, reference)
    assert made.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(made[name], tensor), name
    begin, end = conditioner.text_span(made)
    assert end - begin == len(tokens.ids)
    assert 0 <= begin < end < conditioner.length(made)
    return tokens, begin, end


class Contract(BackboneContract):
    """On a GPU, an adapter computes what it computes on a CPU, without a host that waits in a decoding step."""

    @pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
    def test_a_training_step_on_a_gpu(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, gpu: torch.device, mixed: bool
    ) -> None:
        assert window.size is not None
        soft = AttentionWindow(window.size, 1.5)
        expected = losses(backbone, batch, soft, mixed)
        own = losses(backbone.to(gpu), batch.to(gpu), soft, mixed)
        assert own == pytest.approx(expected, rel=3e-2 if mixed else 1e-4, abs=1e-4)

    def test_speech_on_a_gpu(
        self,
        backbone: Backbone,
        batch: ConditionedBatch,
        window: AttentionWindow,
        gpu: torch.device,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        expected = self.speak(backbone, batch, window)
        for module in (decoder, body):  # which knows no other parameters than torch's own
            monkeypatch.setattr(module, "reason_against_lean", lambda body: None)
        backbone.to(gpu)
        assert Decoder(backbone, window).can_be_captured
        for own, other in zip(self.speak(backbone, batch, window), expected, strict=True):
            assert torch.equal(own, other)

    @staticmethod
    def speak(backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow) -> Sequence[Tensor]:
        spoken = generate(Decoder(backbone, window), batch, rules=StopRules(LONGEST, LONGEST, LONGEST))
        return [generation.codes for generation in spoken]
