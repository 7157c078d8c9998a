"""Decoding with CUDA graphs, and sampling on the device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.conftest import random_codes, sharpened
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate_all, stream
from wand.decoding.requests import Request
from wand.decoding.sampler import Sampler
from wand.decoding.stopping import StopRules
from wand.kv_cache.prefixes import PrefixMemory
from wand.model.sampling import RepetitionAware, Sampling

RULES = StopRules(max_columns=60)
SAMPLINGS = {
    "greedy": Sampling(temperature=0.0),
    "nucleus": Sampling(temperature=0.8, top_k=30, top_p=0.9),
    "repetition": Sampling(top_p=0.8, repetition_penalty=1.3, repetition=RepetitionAware()),
}
ROWS, TOKENS = 20_000, 50


class Eager(Decoder):
    """Without CUDA graphs."""

    can_be_captured = False  # type: ignore[assignment]


@pytest.fixture(scope="module")
def lm(device: torch.device) -> EncodecLM:
    torch.manual_seed(0)
    shape = EncodecLMArchitecture(hidden_size=128, num_layers=3, num_heads=4, num_key_value_heads=2)
    return sharpened(EncodecLM(architecture=shape)).eval().to(device)


@pytest.fixture(scope="module")
def requests(lm: EncodecLM) -> list[Request]:
    texts = ["a", "hello there", "no", "well then", "so it is", "once more"]
    voices = [Reference(random_codes(lm, 20 + 7 * (i % 2))) for i in range(len(texts))]
    made = [lm.conditioner(text, voice) for text, voice in zip(texts, voices, strict=True)]
    return [Request(conditioning, seed=i) for i, conditioning in enumerate(made)]


def codes(decoder: Decoder, requests: list[Request], sampling: Sampling, rows: int = 2) -> list[Tensor]:
    return [one.codes for one in generate_all(decoder, requests, rules=RULES, rows=rows, sampling=sampling)]


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_graphs_speak_what_eager_steps_speak(
    lm: EncodecLM, requests: list[Request], device: torch.device, sampling: Sampling, dtype: torch.dtype
) -> None:
    """Rows start anew while others speak; the second time, prefixes come from memory."""
    model = EncodecLM.from_architecture(lm.architecture()).eval().to(device, dtype)
    model.load_state_dict(lm.state_dict())
    graphs = Decoder(model, AttentionWindow(9), memory=PrefixMemory())
    eager = Eager(model, AttentionWindow(9), memory=PrefixMemory())
    assert graphs.can_be_captured == (device.type == "cuda")
    for _ in range(2):
        for own, expected in zip(codes(graphs, requests, sampling), codes(eager, requests, sampling), strict=True):
            assert torch.equal(own, expected)


def test_a_stream_is_the_speech_in_parts(lm: EncodecLM, requests: list[Request]) -> None:
    decoder, sampling = Decoder(lm, AttentionWindow(9)), SAMPLINGS["nucleus"]
    (whole,) = codes(decoder, requests[1:2], sampling, rows=1)
    request = Request(requests[1].conditioning, seed=1, parts=(3, 10))
    parts = [part.codes for part in stream(decoder, request, rules=RULES, sampling=sampling)]
    assert len(parts) > 2
    assert torch.equal(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("window", [AttentionWindow(9), AttentionWindow()], ids=str)
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_equal_seeds_give_equal_codes(
    lm: EncodecLM, requests: list[Request], window: AttentionWindow, sampling: Sampling
) -> None:
    first, again = (codes(Decoder(lm, window), requests, sampling) for _ in range(2))
    assert all(torch.equal(own, other) for own, other in zip(first, again, strict=True))


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_the_device_draws_what_the_cpu_draws(device: torch.device, sampling: Sampling) -> None:
    """Random numbers are the same everywhere, so only a token at an edge of its share may differ by rounding."""
    logits = 2 * torch.randn(1, 2, TOKENS, generator=torch.Generator().manual_seed(1)).expand(ROWS, -1, -1)

    def draws(where: torch.device | str) -> Tensor:
        sampler = Sampler(sampling, range(ROWS), device=where)
        drawn = []
        for _ in range(3):
            drawn.append(sampler(logits.to(where)))
            sampler.remember(drawn[-1])
        return torch.stack(drawn).cpu()

    own, expected = draws(device), draws("cpu")
    assert (own == expected).double().mean() > 0.999
    if not sampling.greedy:
        counts = torch.stack([torch.bincount(own[0, :, k], minlength=TOKENS) for k in range(2)]).double() / ROWS
        shares = sampling.filter(logits[:1].double() / sampling.temperature).softmax(-1)[0]
        if sampling.repetition is None:
            assert (counts - shares).abs().sum(-1).max() / 2 < 0.02


def test_logits_that_are_not_finite_end_a_row(
    lm: EncodecLM, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = lm.embed_prefix
    monkeypatch.setattr(lm, "embed_prefix", lambda batch: embed(batch) * float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        codes(Decoder(lm, AttentionWindow(9)), requests[:1], SAMPLINGS["greedy"], rows=1)
