"""Several runs of one model at once, in turns or in threads: each gives what it gives alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import soundfile
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import wand
from tests.decoding.test_generate import WINDOWS, speaker
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import stream
from wand.decoding.requests import Request
from wand.decoding.stopping import StopRules
from wand.kv_cache.prefixes import PrefixMemory
from wand.model.batch import Conditioning
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer

RULES = StopRules(max_columns=60, loop_columns=12)
TEXTS = ["hello there", "so it is", "well then", "and again"]


@pytest.fixture(params=WINDOWS.values(), ids=WINDOWS)
def model(request: pytest.FixtureRequest) -> Synthesizer:
    return Synthesizer(speaker().eval(), request.param, codec=None)


@pytest.fixture
def voice() -> Reference:
    return Reference(torch.randint(0, 16, (3, 12), generator=torch.Generator().manual_seed(3)))


@pytest.fixture(scope="module")
def embedded() -> Synthesizer:
    """The voice that comes with wand, as it is, under a window."""
    lm = EncodecLM(pretrained="embedded")
    lm.load_pretrained()
    return Synthesizer(lm.eval(), AttentionWindow(32), lm.load_codec())


def spoken(model: Synthesizer, text: str, voice: Reference, seed: int) -> Tensor:
    (speech,) = model.generate(text, voice, SpeakOptions(seed=seed, max_seconds=2.0))
    return speech.codes


def in_threads(calls: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
    """Results of calls that begin at the same moment, each in a thread of its own."""
    together = Barrier(len(calls))

    def run(call: Callable[[], Tensor]) -> Tensor:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_that_speak_with_one_model(model: Synthesizer, voice: Reference, threads: int) -> None:
    alone = [spoken(Synthesizer(speaker().eval(), model.window, None), t, voice, i) for i, t in enumerate(TEXTS)]
    for _ in range(3):
        calls = [lambda i=i: spoken(model, TEXTS[i], voice, i) for i in range(threads)]
        for own, expected in zip(in_threads(calls), alone, strict=False):
            assert torch.equal(own, expected)


def test_a_windowed_model_generates_while_it_is_called() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.3,
    )
    windowed = wand.apply_window(LlamaForCausalLM(config).eval(), window=3)
    ids, prefix = torch.randint(1, 40, (2, 25)), torch.randint(1, 40, (2, 5))

    @torch.no_grad()
    def forward() -> Tensor:
        return torch.stack([windowed(input_ids=ids, boundary=5).logits for _ in range(20)])

    def generate() -> Tensor:
        return windowed.generate(prefix, max_new_tokens=30, do_sample=False, eos_token_id=None, pad_token_id=0)

    alone = [forward(), generate()]
    for _ in range(3):
        for own, expected in zip(in_threads([forward, generate]), alone, strict=True):
            assert torch.equal(own, expected)
    assert not windowed(input_ids=ids, boundary=5, window=AttentionWindow()).logits.allclose(alone[0][0], atol=0.1)


def codes_of(decoder: Decoder, conditioning: Conditioning, seed: int) -> Iterator[Tensor]:
    """The parts of one speech."""
    for part in stream(decoder, Request(conditioning, seed, parts=(2, 3)), rules=RULES):
        yield part.codes


def in_turns(streams: Sequence[Iterator[Tensor]]) -> list[Tensor]:
    """The parts of several streams, read in turns, joined stream by stream."""
    parts: list[list[Tensor]] = [[] for _ in streams]
    left = list(range(len(streams)))
    while left:
        for i in list(left):
            part = next(streams[i], None)
            if part is None:
                left.remove(i)
            else:
                parts[i].append(part)
    return [torch.cat(own, dim=-1) for own in parts]


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_streams_in_turns(window: AttentionWindow, voice: Reference, count: int) -> None:
    lm = speaker()
    decoder = Decoder(lm, window, memory=PrefixMemory())
    said = [lm.conditioner(TEXTS[i % len(TEXTS)], voice) for i in range(count)]
    alone = [torch.cat(list(codes_of(Decoder(lm, window), one, i)), dim=1) for i, one in enumerate(said)]
    together = in_turns([codes_of(decoder, one, i) for i, one in enumerate(said)])
    for own, expected in zip(together, alone, strict=True):
        assert torch.equal(own, expected)
    assert len({own.shape[1] for own in alone}) > 1, "they end at different columns"


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_generate_between_the_parts_of_a_stream(window: AttentionWindow, voice: Reference) -> None:
    lm = speaker()
    model = Synthesizer(lm, window, codec=None)
    said = lm.conditioner(TEXTS[0], voice)
    alone = torch.cat(list(codes_of(Decoder(lm, window), said, 0)), dim=1)
    parts, others = [], []
    for part in codes_of(model.decoder, said, 0):
        parts.append(part)
        others.append(spoken(model, TEXTS[1], voice, 7))
    assert len(parts) > 2
    assert torch.equal(torch.cat(parts, dim=1), alone)
    expected = spoken(Synthesizer(speaker(), window, None), TEXTS[1], voice, 7)
    assert all(torch.equal(other, expected) for other in others)


def test_streams_of_sound_in_turns_and_in_threads(embedded: Synthesizer, tmp_path: Path) -> None:
    """The embedded voice with its codec, whose stream keeps a state of its own."""
    time = torch.arange(16_000) / 16_000
    sound = (0.3 * torch.sin(2 * torch.pi * 150 * time)).numpy()
    soundfile.write(tmp_path / "voice.wav", sound, 16_000)
    voice = embedded.read_voice(tmp_path / "voice.wav")

    def parts(seed: int) -> Iterator[Tensor]:
        for part in embedded.stream(TEXTS[seed], voice, SpeakOptions(seed=seed, max_seconds=0.8, chunk_seconds=0.1)):
            yield part.audio

    alone = [torch.cat(list(parts(seed))) for seed in range(3)]
    for own, expected in zip(in_turns([parts(seed) for seed in range(3)]), alone, strict=True):
        torch.testing.assert_close(own, expected, atol=1e-6, rtol=0)
    in_parallel = in_threads([lambda seed=seed: torch.cat(list(parts(seed))) for seed in range(3)])
    for own, expected in zip(in_parallel, alone, strict=True):
        torch.testing.assert_close(own, expected, atol=1e-6, rtol=0)
