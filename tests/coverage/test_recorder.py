"""The attention that is added up is that of the model: against the matrices of transformers' eager attention over every
row alone, and against the steps that have spoken.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import random_codes
from wand.attention import AttentionWindow
from wand.attention.interface import Attends
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.coverage.mass import LARGEST, AttentionMass
from wand.coverage.recorder import MassRecorder
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.model.batch import Conditioning, make_batch

SIZES = (1, 2, 7, 30, LARGEST)


class ByHand:
    """Sums over the steps, one step after the other."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, str], Tensor] = defaultdict(lambda: torch.zeros(4, dtype=torch.float64))
        self.steps = 0

    def add(self, layer: int, shares: Tensor, prefix: int, text: tuple[int, int]) -> None:
        """The shares ``[H, S]`` of the query in the last column."""
        parts = {"prefix": slice(prefix), "text": slice(*text)}
        parts |= {f"W{size}": slice(max(prefix, shares.shape[1] - size), None) for size in SIZES}
        for name, columns in parts.items():
            self.sums[layer, name] += shares[:, columns].double().sum(1)
        self.steps += layer == 0

    def check(self, mass: AttentionMass) -> None:
        assert mass.steps == self.steps
        assert mass.text is not None
        for layer in range(2):
            mean = {part: sums / self.steps for (own, part), sums in self.sums.items() if own == layer}
            torch.testing.assert_close(mass.prefix[layer], mean["prefix"], atol=1e-6, rtol=0)
            torch.testing.assert_close(mass.text[layer], mean["text"], atol=1e-6, rtol=0)
            for size in SIZES:
                torch.testing.assert_close(mass.inside(size)[layer], mean[f"W{size}"], atol=1e-6, rtol=0)
                covered = mean["prefix"] + mean[f"W{size}"]
                torch.testing.assert_close(mass.covered(size)[layer], covered, atol=1e-6, rtol=0)


def conditionings(lm: EncodecLM) -> list[Conditioning]:
    """Texts and references of different lengths, so that prefixes are padded."""
    return [lm.conditioner(text, Reference(random_codes(lm, 3 + i))) for i, text in enumerate(("a", "hello", "no"))]


def eager_matrices(lm: EncodecLM, conditioning: Conditioning, codes: Tensor) -> tuple[list[Tensor], int]:
    """The attention ``[H, S, S]`` of every layer by transformers' own eager attention, and P, without padding."""
    batch = make_batch(lm.conditioner, lm.layout, [conditioning], [codes])
    embeds, columns = lm.embed(batch)
    stock = copy.deepcopy(lm.decoder)
    stock.set_attn_implementation("eager")
    mask = torch.full((columns.shape[-1],) * 2, float("-inf")).triu(1)[None, None]
    output = stock(
        inputs_embeds=embeds,
        position_ids=lm.position_ids(columns, batch.starts),
        attention_mask=mask,
        output_attentions=True,
        use_cache=False,
    )
    return [one[0] for one in output.attentions], batch.prefix_length


@torch.no_grad()
def test_a_padded_batch_adds_up_to_the_matrices_of_every_row(tiny_lm: EncodecLM) -> None:
    """With grouped keys, several blocks of queries, and speech that is longer than the largest window."""
    rows = conditionings(tiny_lm)
    codes = [random_codes(tiny_lm, frames) for frames in (LARGEST + 24, 5, 40)]
    hand = ByHand()
    for conditioning, one in zip(rows, codes, strict=True):
        matrices, prefix = eager_matrices(tiny_lm, conditioning, one)
        text = tiny_lm.conditioner.text_span(conditioning)
        for layer, matrix in enumerate(matrices):
            for column in range(prefix, matrix.shape[1]):
                hand.add(layer, matrix[:, column, : column + 1], prefix, text)
    together, apart = MassRecorder(tiny_lm), MassRecorder(tiny_lm)
    together.add(rows, codes)
    for conditioning, one in zip(rows, codes, strict=True):
        apart.add([conditioning], [one])
    hand.check(together.mass())
    hand.check(apart.mass())
    assert together.mass().covered(LARGEST).min() < 0.999, "some attention is older than the largest window"
    assert together.prefix_columns == apart.prefix_columns


class _Steps:
    """Stands where the watch of alignment heads does, and computes the attention of each step from keys and query."""

    def __init__(self, hand: ByHand, prefix: int, text: tuple[int, int]) -> None:
        self.hand, self.prefix, self.text = hand, prefix, text

    def context(self, context: Attends) -> Attends:
        self.own = context
        return self

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        keys = key[0].repeat_interleave(query.shape[1] // key.shape[1], 0)
        logits = torch.einsum("hd,hsd->hs", query[0, :, 0], keys) * query.shape[-1] ** -0.5
        self.hand.add(layer, logits.softmax(-1), self.prefix, self.text)
        return self.own.attend(layer, query, key, value, scaling)


@torch.no_grad()
def test_a_pass_over_a_speech_sees_the_attention_of_its_steps(tiny_lm: EncodecLM) -> None:
    (_, conditioning, _) = conditionings(tiny_lm)
    batch = make_batch(tiny_lm.conditioner, tiny_lm.layout, [conditioning])
    decoder = Decoder(tiny_lm, AttentionWindow(), "transformers")
    (spoken,) = generate(decoder, batch, rules=StopRules(max_columns=40), seeds=[7])
    columns = tiny_lm.layout.to_columns(spoken.codes)
    assert len(columns) > 8
    hand = ByHand()
    steps: Any = _Steps(hand, batch.prefix_length, tiny_lm.conditioner.text_span(conditioning))
    _, cache = decoder.prefill(batch)
    for column in columns:
        decoder.step(cache, column[None], steps)
    recorder = MassRecorder(tiny_lm)
    recorder.add([conditioning], [spoken.codes])
    hand.check(recorder.mass())


def test_an_adapter_that_does_not_know_its_text_has_the_prefix_only(
    tiny_lm: EncodecLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioner = tiny_lm.conditioner

    class Plain:
        length, collate = staticmethod(conditioner.length), staticmethod(conditioner.collate)

        def __call__(self, text: str, reference: Reference) -> Conditioning:
            return conditioner(text, reference)

    one, codes = conditionings(tiny_lm)[0], random_codes(tiny_lm, 9)
    whole = MassRecorder(tiny_lm)
    whole.add([one], [codes])
    monkeypatch.setattr(tiny_lm, "conditioner", Plain())
    plain = MassRecorder(tiny_lm)
    plain.add([one], [codes])
    assert plain.mass().text is None
    assert plain.mass().reference is None
    torch.testing.assert_close(plain.mass().prefix, whole.mass().prefix)
