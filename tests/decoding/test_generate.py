"""A whole decode equals a loop that does everything again for every column of every row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, sharpened
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.sampler import Sampler
from wand.decoding.stopping import StopReason, StopRules
from wand.model.batch import ConditionedBatch, make_batch
from wand.model.sampling import Sampling

SEEDS = [11, 5, 8, 2]
TEXTS = ["a", "hello", "no", "well then"]
WINDOWS = {"window": AttentionWindow(4), "full": AttentionWindow()}


class Limited(EncodecLM):
    """Says only what it is told to: the tokens that codebook 0 may take."""

    allowed: tuple[int, ...] = ()

    def forbidden_tokens(self) -> Tensor | None:
        forbidden = super().forbidden_tokens()
        forbidden[0] = True
        forbidden[0, list(self.allowed)] = False
        return forbidden


def speaker(*allowed: int) -> EncodecLM:
    torch.manual_seed(0)
    kind = type("Limited", (Limited,), {"allowed": allowed}) if allowed else EncodecLM
    return sharpened(kind(architecture=TINY)).eval()


def conditioned(lm: EncodecLM, rows: range | list[int] = range(4)) -> ConditionedBatch:
    voice = Reference(torch.arange(12).view(3, 4))
    return make_batch(lm.conditioner, lm.layout, [lm.conditioner(TEXTS[row], voice) for row in rows])


@torch.no_grad()
def brute_force(
    lm: EncodecLM, row: int, window: AttentionWindow, sampling: Sampling, limit: int
) -> tuple[list[list[int]], str]:
    """Codes ``[K][F]`` and reason of one row, everything computed again for every column."""
    delays = range(lm.num_codebooks)
    filler = lm.layout.filler_id
    sampler = Sampler(sampling, [SEEDS[row]], lm.forbidden_tokens())
    columns: list[list[int]] = []
    stopped: int | None = None
    reason = "length bound"
    while len(columns) < limit:
        spoken = torch.tensor(columns, dtype=torch.long).view(1, -1, len(delays))
        batch = replace(conditioned(lm, [row]), columns=spoken, lengths=torch.tensor([len(columns)]))
        tokens = sampler(lm(batch, window)[:, -1])[0].tolist()
        step = len(columns)
        if stopped is None and tokens[0] in lm.stop_ids:
            stopped = step
        if stopped is not None and step == stopped + delays[-1]:
            reason = "stop token"
            break
        speaking = [k <= step < k + (step + 1 if stopped is None else stopped) for k in delays]
        columns.append([token if speaks else filler for token, speaks in zip(tokens, speaking, strict=True)])
        sampler.remember(torch.tensor(columns[-1:]))
    frames = max(0, len(columns) - delays[-1])
    return [[columns[frame + k][k] for frame in range(frames)] for k in delays], reason


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(temperature=0.8, top_k=8, top_p=0.9, repetition_penalty=1.3), Sampling(temperature=0)],
    ids=["plain", "filtered", "greedy"],
)
def test_generate(window, sampling):
    lm = speaker()
    rules = StopRules(max_columns=30)
    spoken = generate(Decoder(lm, window), conditioned(lm), rules=rules, sampling=sampling, seeds=SEEDS)
    for row, generation in enumerate(spoken):
        codes, reason = brute_force(lm, row, window, sampling, rules.max_columns)
        assert generation.codes.tolist() == codes
        assert str(generation.reason) == reason
        assert torch.equal(lm.layout.from_columns(generation.columns), generation.codes)
    if sampling.temperature == 1:
        assert len({generation.codes.shape[1] for generation in spoken}) > 1, "rows end at different columns"


def test_a_row_speaks_the_same_in_any_company():
    lm = speaker()
    rules = StopRules(max_columns=25)
    together = generate(Decoder(lm, WINDOWS["window"]), conditioned(lm), rules=rules, seeds=SEEDS)
    for row in range(4):
        (alone,) = generate(Decoder(lm, WINDOWS["window"]), conditioned(lm, [row]), rules=rules, seeds=[SEEDS[row]])
        assert torch.equal(alone.codes, together[row].codes)
        assert alone.reason == together[row].reason


def test_a_stop_before_the_first_frame():
    lm = speaker(TINY.codebook_size)
    for generation in generate(Decoder(lm, WINDOWS["window"]), conditioned(lm), rules=StopRules(max_columns=20)):
        assert generation.codes.shape == (3, 0)
        assert generation.reason == StopReason.STOP_TOKEN


def test_no_tokens_are_left_in_codes_that_the_codec_does_not_know():
    lm = speaker()
    for generation in generate(
        Decoder(lm, WINDOWS["window"]), conditioned(lm), rules=StopRules(max_columns=40), seeds=SEEDS
    ):
        assert (generation.codes < TINY.codebook_size).all()


def test_the_length_bound_and_its_callback():
    lm = speaker(1, 2)
    calls: list[None] = []
    rules = StopRules(max_columns=19)
    spoken = generate(
        Decoder(lm, WINDOWS["window"]), conditioned(lm), rules=rules, on_column=lambda: calls.append(None)
    )
    assert len(calls) == 19
    assert {generation.reason for generation in spoken} == {StopReason.LENGTH}
    assert all(generation.codes.shape == (3, 17) for generation in spoken)


def test_the_models_own_bound_holds_as_well():
    lm = speaker(1, 2)
    lm.max_speech_tokens = 7
    (generation,) = generate(Decoder(lm, WINDOWS["window"]), conditioned(lm, [0]), rules=StopRules(max_columns=19))
    assert generation.columns.shape == (7, 3)
    assert generation.reason == StopReason.LENGTH


def test_silence_ends_a_row():
    lm = speaker(4)
    rules = StopRules(max_columns=100, silence_columns=12, silent_tokens=frozenset({4}))
    (generation,) = generate(Decoder(lm, WINDOWS["window"]), conditioned(lm, [0]), rules=rules)
    assert generation.reason == StopReason.SILENCE
    assert 12 <= len(generation.columns) < 100


def test_a_loop_ends_a_row():
    lm = speaker(4)
    lm.head.data[1:] = 0  # so that greedy takes the first code of the other codebooks for ever
    rules = StopRules(max_columns=100, loop_columns=8)
    sampling = Sampling(temperature=0)
    (generation,) = generate(Decoder(lm, WINDOWS["window"]), conditioned(lm, [0]), rules=rules, sampling=sampling)
    assert generation.reason == StopReason.LOOP
    assert len(generation.columns) < 100


def test_decoding_refuses_a_soft_window():
    with pytest.raises(ValueError, match="hard mask"):
        Decoder(speaker(), AttentionWindow(4, 1.0))
