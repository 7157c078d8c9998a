"""Logits that are not finite end a speech with an error that names it; other speeches are not disturbed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import wand
from tests.decoding.test_engine import RULES, SAMPLINGS, TEXTS, alone, requests
from tests.decoding.test_generate import WINDOWS, speaker
from tests.workplace import Workplace
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.engine import Engine
from wand.decoding.generate import generate_all, stream
from wand.decoding.requests import Done, Generation, RequestError
from wand.decoding.sampler import Sampler
from wand.model.sampling import RepetitionAware, Sampling

NAN, INF = float("nan"), float("inf")
BAD = 2  # of TEXTS


def broken_for_one() -> EncodecLM:
    """A model whose embedding of one letter, which only text `BAD` has, is NaN."""
    lm = speaker()
    voice = Reference(torch.zeros(3, 3, dtype=torch.long))
    letters = [set(lm.conditioner(text, voice)["ids"].flatten().tolist()) for text in [*TEXTS[:BAD], "z"]]
    (letter,) = letters[-1] - set().union(*letters[:-1]) - {0}
    with torch.no_grad():
        next(m for m in lm.modules() if isinstance(m, torch.nn.Embedding)).weight[letter] = NAN
    return lm


def with_bad(lm: EncodecLM) -> list:
    wanted = requests(lm)
    voice = Reference(torch.zeros(3, 3, dtype=torch.long))
    wanted[BAD] = replace(wanted[BAD], conditioning=lm.conditioner("zz", voice), name="zz")
    return wanted


@pytest.mark.parametrize("look", [1, 8])
@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_the_request_is_named_and_the_others_go_on(monkeypatch, window, rows, look) -> None:
    monkeypatch.setitem(wand.decoding.engine.LOOK_EVERY, "cpu", look)
    lm = broken_for_one()
    engine = Engine(Decoder(lm, window), rows=rows, prefix_length=64, rules=RULES, sampling=SAMPLINGS["penalised"])
    wanted = with_bad(lm)
    tickets = [engine.submit(request) for request in wanted]
    spoken: dict[int, Generation] = {}
    errors = []
    while engine.busy:
        try:
            spoken |= {event.ticket: event.generation for event in engine.step() if isinstance(event, Done)}
        except RequestError as error:
            errors.append(error)
    (error,) = errors
    assert error.ticket == tickets[BAD]
    assert error.__cause__ is None
    assert f"request {tickets[BAD]} 'zz' cannot be spoken: its logits are not finite" in str(error)
    assert spoken.keys() == set(tickets) - {tickets[BAD]}
    for ticket, generation in spoken.items():
        expected = alone(lm, wanted[ticket], window, SAMPLINGS["penalised"])
        assert torch.equal(generation.codes, expected.codes)
        assert generation.reason == expected.reason


@pytest.mark.parametrize("sampling", [*SAMPLINGS.values(), Sampling(temperature=0)], ids=[*SAMPLINGS, "greedy"])
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_broken_weights_are_no_speech(dtype: torch.dtype, value: float, sampling: Sampling) -> None:
    lm = speaker().to(dtype)
    with torch.no_grad():
        next(p for name, p in lm.decoder.named_parameters() if name.endswith("o_proj.weight"))[0, 0] = value
    with pytest.raises(ValueError, match="request 0 '' cannot be spoken: its logits are not finite") as error:
        generate_all(Decoder(lm, AttentionWindow(4)), requests(lm)[:2], rules=RULES, rows=2, sampling=sampling)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="cannot be spoken"):
        list(
            stream(
                Decoder(lm, AttentionWindow(4)),
                replace(requests(lm)[0], parts=(2, 3)),
                rules=RULES,
                sampling=sampling,
            )
        )


def test_whole_speeches_in_half_precision_stay() -> None:
    """Masks, which are -1e30, do not fit into float16; finite logits are spoken."""
    lm = speaker().to(torch.float16)
    spoken = generate_all(Decoder(lm, AttentionWindow(4)), requests(lm), rules=RULES, rows=3)
    assert sum(one.codes.shape[1] for one in spoken) > 0


@pytest.mark.parametrize("setting", ["temperature", "top_p", "repetition_penalty", "top_k"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_settings_are_finite(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{setting} .*(nan|inf) is not finite"):
        Sampling(**{setting: value})
    with pytest.raises(ValueError, match="share nan is not finite"):
        RepetitionAware(share=NAN)


@dataclass(frozen=True)
class Careless(Sampling):
    """A user's rule that gives NaN for small logits."""

    def filter(self, logits: Tensor) -> Tensor:
        return torch.where(logits < -3, NAN, logits)


@pytest.mark.parametrize(
    ("sampling", "logits"),
    [
        (Sampling(), [[0.0, NAN, 0.0], [1.0, 2.0, 3.0]]),
        (Sampling(repetition=RepetitionAware(), top_k=1, top_p=0.5), [[0.0, NAN, 5.0], [1.0, 2.0, 3.0]]),
        (Sampling(), [[-INF, -INF, -INF], [-INF, 2.0, -INF]]),
        (Sampling(temperature=0), [[INF, 0.0, 0.0], [1.0, -INF, 3.0]]),
        (Sampling(temperature=2e-6), [[3e38, 0.0, 0.0], [1.0, 2.0, 3.0]]),
        (Careless(), [[-5.0, 0.0, 0.0], [1.0, 2.0, 3.0]]),
    ],
)
def test_only_rows_without_a_finite_largest_logit_are_noted(sampling: Sampling, logits: list[list[float]]) -> None:
    sampler = Sampler(sampling, [0, 1])
    tokens = sampler(torch.tensor(logits)[:, None])
    assert sampler.finite.tolist() == [False, True]
    assert int(tokens[0, 0]) == 0
    assert logits[1][int(tokens[1, 0])] > -INF
    sampler.restart(torch.tensor([0]), [5])
    assert sampler.finite.all()


@pytest.mark.parametrize("temperature", [1e-7, 1e-40, 5e-324])
def test_the_smallest_temperatures_take_the_most_likely_token(temperature: float) -> None:
    logits = torch.tensor([[[1.0, 50.0, 49.9]]])
    sampler = Sampler(Sampling(temperature=temperature), [0])
    assert sampler(logits).tolist() == [[1]]
    assert sampler.finite.all()


def test_a_model_that_is_broken_in_memory_names_the_text(run: Workplace) -> None:
    model = wand.load("runs/quickstart")
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.fill_(NAN)
    with pytest.raises(ValueError, match=r"'a small window\.' cannot be spoken: its logits are not finite"):
        model.generate("a small window.", reference="runs/quickstart/samples/0-reference.wav")
