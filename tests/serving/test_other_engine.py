"""A server whose engine is another one: what it speaks is what the model says alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.backbones import test_cosyvoice
from tests.backbones.test_causal_lm import CODES, make_model, voice
from tests.runs.test_export import save_run
from tests.serving.conftest import Running, serving, until
from tests.serving.test_refused import GOOD, assert_refused, post
from tests.serving.test_speech import OPTIONS, TEXTS, alone, assert_sounds_like, samples
from tests.serving.test_text_stream import opened, rest
from tests.serving.vllm_stand_in import StandIn, listening
from wand.attention import AttentionWindow
from wand.backbones.cosyvoice import CosyVoice2
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.decoding.generate import generate_all
from wand.decoding.requests import Generation, Request
from wand.decoding.stopping import StopRules
from wand.model.alignment import AlignmentHead
from wand.model.backbone import Backbone
from wand.model.batch import make_batch
from wand.model.sampling import Sampling
from wand.runs.export import export
from wand.serving.engines.remote import RemoteEngine
from wand.serving.settings import ServerSettings
from wand.serving.speaker import server_rules
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer, load

SETTINGS = ServerSettings(rows=3, queue=8, max_seconds=OPTIONS.max_seconds, model="tiny")


class Steps(Codec):
    """A causal codec that needs no weights: a frame is 20 ms of a constant level, which is its code."""

    sample_rate = 24_000
    frame_rate = 50.0
    num_codebooks = 1
    codebook_size = CODES
    causal = True

    @property
    def fingerprint(self) -> str:
        return "steps"

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        return (audio[:, :, ::480].abs() * 100).long().clamp(0, CODES - 1)

    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        return (codes.float().mean(1, keepdim=True) / CODES).repeat_interleave(480, dim=-1)

    def to(self, device: torch.device | str) -> Self:
        return self


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    """The export of a tiny NeuTTS, which speaks from phones at 24 kHz."""
    folder = tmp_path_factory.mktemp("neutts")
    export(save_run(make_model(folder / "original", "neutts"), folder / "run"), folder / "tiny")
    return load(folder / "tiny", codec=Steps())


@pytest.fixture(scope="module")
def stand_in(exported: Synthesizer) -> Iterator[StandIn]:
    with listening(StandIn(exported)) as running:
        yield running


def connect(stand_in: StandIn, model: Synthesizer, name: str = "tiny") -> RemoteEngine:
    return RemoteEngine.connect(stand_in.url, model.backbone, server_rules(model, SETTINGS), name)


@pytest.fixture(scope="module")
def front(exported: Synthesizer, stand_in: StandIn, folder: Path) -> Iterator[Running]:
    with serving(exported, folder, SETTINGS, connect(stand_in, exported)) as running:
        yield running


def test_clients_hear_what_each_would_hear_alone(front: Running, stand_in: StandIn) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: front.speak(TEXTS[i], seed=10 + i), range(4)))
    for i, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        speech = alone(front, TEXTS[i], options=replace(OPTIONS, seed=10 + i))
        torch.testing.assert_close(samples(answer.content), speech.audio, atol=1.01 / 32767, rtol=0)
    assert len({answer.content for answer in answers}) == 4
    asked = next(body for body in stand_in.asked if body.get("seed") == 10)
    assert asked["prompt"] == front.speaker.backbone.conditioner(TEXTS[0], front.speaker.voices["anna"])["ids"].tolist()


def test_a_sampling_of_its_own_reaches_the_engine(front: Running) -> None:
    wish = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "repetition_penalty": 1.3}
    sampling = replace(front.speaker.backbone.sampling, **wish)
    answer = front.speak(seed=3, sampling=wish)
    assert_sounds_like(answer.content, alone(front, "so it is.", options=replace(OPTIONS, seed=3, sampling=sampling)))
    assert answer.content != front.speak(seed=3).content


@pytest.mark.parametrize(("name", "ending"), [("llasa", "loop"), ("orpheus", "stop token")])
def test_codes_and_ends_are_those_of_wands_own_engine(name: str, ending: str, tmp_path: Path) -> None:
    """Also with seven slots in a frame, and where only a rule of wand ends the speech: vLLM has no such rules."""
    model = Synthesizer(make_model(tmp_path, name), AttentionWindow(7), None)
    backbone = model.backbone
    rules = replace(server_rules(model, SETTINGS), max_columns=210, loop_columns=20)
    requests = [Request(backbone.conditioner("so it is.", voice(name)), seed, parts=(2, 3)) for seed in range(3)]
    greedy = replace(backbone.sampling, temperature=0.0, repetition_penalty=1.0)  # which soon repeats itself

    async def codes(engine: RemoteEngine) -> list[tuple[Tensor, str]]:
        found = []
        for request in requests:
            async with aclosing(engine.speak(request, greedy if request.seed == 2 else None)) as chunks:
                parts = [chunk async for chunk in chunks]
            assert [part.reason is None for part in parts] == [True] * (len(parts) - 1) + [False]
            found.append((torch.cat([part.codes for part in parts], dim=1), parts[-1].reason))
        await engine.close()
        return found

    with listening(StandIn(model)) as stand_in:
        engine = RemoteEngine.connect(stand_in.url, backbone, rules, "tiny")
        for request, (spoken, reason) in zip(requests, asyncio.run(codes(engine)), strict=True):
            own = own_speech(model, request, rules, greedy if request.seed == 2 else None)
            assert torch.equal(spoken, own.codes)
            assert reason == own.reason
        assert reason == ending
        assert until(lambda: stand_in.engine.idle)


def own_speech(model: Synthesizer, request: Request, rules: StopRules, sampling: Sampling | None) -> Generation:
    (speech,) = generate_all(model.decoder, [replace(request, parts=None)], rules=rules, rows=1, sampling=sampling)
    return speech


def test_a_client_that_leaves_ends_the_request(front: Running, stand_in: StandIn, exported: Synthesizer) -> None:
    async def leave() -> None:
        speaker = front.speaker
        async with aclosing(speaker.speak("so it is.", speaker.voices["anna"], SpeakOptions())) as chunks:
            await anext(chunks)
            assert speaker.engine.open == 1

    engine, front.speaker.engine = front.speaker.engine, connect(stand_in, exported)
    try:
        asyncio.run(leave())
    finally:
        front.speaker.engine = engine
    assert until(lambda: stand_in.engine.idle)
    assert front.becomes_idle()


def test_long_texts_are_split(front: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of a model that could speak passages."""
    monkeypatch.setattr(front.speaker.backbone, "alignment_heads", (AlignmentHead(0, 0),))
    monkeypatch.setattr(front.speaker.backbone, "longest_prefix", 60)
    text = "so it is. why not? every word is heard, and then another one is heard as well."
    monkeypatch.setattr(front.speaker, "settings", replace(SETTINGS, max_seconds=60.0))
    answer = front.speak(text, seed=4)
    speech = alone(front, text, options=replace(OPTIONS, seed=4, long_text="split"))
    assert_sounds_like(answer.content, speech)
    with opened(front, {"voice": "anna"}) as socket:
        _, others, code = rest(socket)
    assert code == 1008
    assert "only wand's own speaks text in pieces" in str(others[-1])


def test_what_the_engine_refuses_is_the_clients_to_know(front: Running) -> None:
    message = assert_refused(post(front, {**GOOD, "input": "a " * 600}), 400, "input")
    assert "at most 500 tokens" in message


def test_an_engine_that_is_away_is_told(exported: Synthesizer, folder: Path) -> None:
    with listening(StandIn(exported)) as gone:
        engine = connect(gone, exported)
    with serving(exported, folder, SETTINGS, engine) as front:
        assert_refused(post(front, GOOD), 503, None, "engine_away")
        assert front.becomes_idle()


@pytest.mark.parametrize(
    ("faults", "name", "message"),
    [
        pytest.param({}, "another", "has the model '/exports/tiny', not 'another'", id="another-model"),
        pytest.param({"plugin": False}, "tiny", "without the plugin wand-vllm", id="no-plugin"),
        pytest.param({"token_ids": False}, "tiny", "sends no token_ids: it needs vLLM 0.32", id="too-old"),
        pytest.param({"shift": 1000}, "tiny", "which is no speech", id="no-speech"),
    ],
)
def test_engines_that_cannot_be_used_are_refused_at_the_start(
    exported: Synthesizer, faults: dict[str, int], name: str, message: str
) -> None:
    with listening(StandIn(exported, **faults)) as stand_in, pytest.raises(ValueError, match=message) as error:
        connect(stand_in, exported, name)
    assert "\n" not in str(error.value)


def test_addresses_without_an_engine_are_refused_at_the_start(exported: Synthesizer, server: Running) -> None:
    rules = server_rules(exported, SETTINGS)
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with pytest.raises(ValueError, match=r"cannot be reached .*: start `vllm serve`"):
        RemoteEngine.connect(f"http://127.0.0.1:{port}", exported.backbone, rules, "tiny")
    with pytest.raises(ValueError, match="status 404"):  # wand's own server
        RemoteEngine.connect(server.url, exported.backbone, rules, "tiny")
    for url in ("127.0.0.1:8001", "ftp://engine", "http://"):
        with pytest.raises(ValueError, match="is not an address"):
            RemoteEngine.connect(url, exported.backbone, rules, "tiny")


def test_models_whose_prefix_is_no_ids_are_refused() -> None:
    lm = EncodecLM(architecture=EncodecLMArchitecture())
    with pytest.raises(ValueError, match="cannot speak for EncodecLM, whose prefix or speech is not token ids"):
        RemoteEngine("http://127.0.0.1:1", lm, StopRules(10))


def test_prompts_of_cosyvoice_are_ids_of_its_joint_table(tmp_path: Path) -> None:
    """The joint model embeds them as the model embeds its prefix."""
    model: Backbone = CosyVoice2(pretrained=str(test_cosyvoice.write_release(tmp_path, test_cosyvoice.GOLDEN.state)))
    model.load_pretrained()
    lm = model.causal_lm()
    assert lm is not None
    assert lm.write is not None
    lm.write(tmp_path / "joint", torch.float32)
    joint = AutoModelForCausalLM.from_pretrained(tmp_path / "joint").get_input_embeddings()
    given = model.conditioner("so it is", Reference(codes=torch.tensor([[3, 5, 7]]), text="why not"))
    batch = make_batch(model.conditioner, model.layout, [given])
    assert torch.equal(joint(lm.prompt_ids(given))[None], model.embed_prefix(batch))
