"""The part of the conformance suite that decodes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wand.attention import AttentionWindow
from wand.decoding.decoder import Body, Decoder
from wand.kv_cache.prefix_window import PrefixWindowCache
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.testing.tools import later


class DecodingContract:
    """Tests of the step-by-step decoder on a backbone. See `wand.testing.BackboneContract`."""

    tolerance: float = 1e-4

    @pytest.mark.parametrize("body", ["transformers", "auto"])
    @pytest.mark.parametrize("cache", ["ring", "full"])
    @torch.no_grad()
    def test_stepping_equals_one_forward(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, cache: str, body: Body
    ) -> None:
        """Decoding column by column gives the logits of training, with both caches and also in the lean body."""
        at = window if cache == "ring" else AttentionWindow()
        expected = backbone(batch, at)
        head = backbone.speech_head()
        decoder = Decoder(backbone, at, body)
        hidden, state = decoder.prefill(batch)
        self.close(head.logits(hidden, batch.labels[:, 0]), expected[:, 0])
        for step in range(batch.columns.shape[1]):
            hidden = decoder.step(state, batch.columns[:, step])
            self.close(head.logits(hidden, batch.labels[:, step + 1]), expected[:, step + 1])

    @pytest.mark.parametrize("body", ["transformers", "auto"])
    @torch.no_grad()
    def test_a_break_does_not_change_the_speech(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, body: Body
    ) -> None:
        """A run that starts again after some columns gives the logits of a run without a break."""
        expected = backbone(batch, window)
        for spoken in (1, batch.columns.shape[1] // 2, batch.columns.shape[1] - 1):
            self.goes_on(backbone, batch, window, body, spoken, expected)

    @pytest.mark.parametrize("body", ["transformers", "auto"])
    @torch.no_grad()
    def test_a_speech_goes_on_from_its_newest_columns(
        self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow, body: Body
    ) -> None:
        """A run that starts in the middle of a speech gives the logits of training for the same columns."""
        assert window.size is not None
        batch = later(batch, 3)
        self.goes_on(backbone, batch, window, body, window.size + 1, backbone(batch, window))

    def goes_on(
        self,
        backbone: Backbone,
        batch: ConditionedBatch,
        window: AttentionWindow,
        body: Body,
        spoken: int,
        expected: Tensor,
    ) -> None:
        """Start a run after some columns of a batch, and compare the logits of every step."""
        head, decoder = backbone.speech_head(), Decoder(backbone, window, body)
        hidden, state = decoder.go_on(replace(batch, columns=batch.columns[:, :spoken]))
        self.close(head.logits(hidden, batch.labels[:, spoken]), expected[:, spoken])
        for step in range(spoken, batch.columns.shape[1]):
            hidden = decoder.step(state, batch.columns[:, step])
            self.close(head.logits(hidden, batch.labels[:, step + 1]), expected[:, step + 1])

    def test_the_ring_never_grows(self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow) -> None:
        """The size of the cache does not change."""
        decoder = Decoder(backbone, window)
        _, cache = decoder.prefill(batch)
        assert isinstance(cache, PrefixWindowCache)
        sizes = {cache.nbytes}
        for step in range(batch.columns.shape[1]):
            decoder.step(cache, batch.columns[:, step])
            sizes.add(cache.nbytes)
        assert len(sizes) == 1

    @torch.no_grad()
    def test_it_speaks_in_bfloat16(self, backbone: Backbone, batch: ConditionedBatch, window: AttentionWindow) -> None:
        """Weights in bfloat16 give about the same logits."""
        expected = backbone(batch, window)
        half = copy.deepcopy(backbone).to(torch.bfloat16)
        decoder, head = Decoder(half, window), half.speech_head()
        hidden, cache = decoder.prefill(batch)
        for step in range(min(3, batch.columns.shape[1])):
            logits = head.logits(hidden, batch.labels[:, step]).float()
            difference = (logits - expected[:, step]).norm() / expected[:, step].norm()
            assert difference < 0.1, f"relative difference {difference:.2f} at step {step}"
            hidden = decoder.step(cache, batch.columns[:, step])

    def close(self, own: Tensor, expected: Tensor) -> None:
        """Assert that two results agree within `tolerance`."""
        torch.testing.assert_close(own, expected, atol=self.tolerance, rtol=self.tolerance)
