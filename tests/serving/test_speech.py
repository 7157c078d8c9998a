"""What the server speaks is what the model says alone."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tests.serving.conftest import SECONDS, Running, serving
from wand.serving.settings import ServerSettings
from wand.serving.speaker import Usage
from wand.speech.speaking import SpeakOptions, Speech
from wand.speech.synthesizer import Synthesizer

TEXTS = ["so it is.", "why not?", "every word is heard.", "and another one."]
VOICES = ("anna", "bob")
OPTIONS = SpeakOptions(max_seconds=SECONDS)


def samples(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, "<i2").astype(np.float32)) / 32767


def alone(server: Running, text: str, voice: str = "anna", options: SpeakOptions = OPTIONS) -> Speech:
    own = Synthesizer(server.speaker.backbone, server.speaker.window, server.speaker.codec)
    (speech,) = own.generate(text, server.speaker.voices[voice], options)
    return speech


def assert_sounds_like(content: bytes, speech: Speech) -> None:
    """The same to one step of 16 bit."""
    assert speech.audio is not None
    assert len(speech.audio) > 1000
    torch.testing.assert_close(samples(content), speech.audio.clamp(-1, 1), atol=1.01 / 32767, rtol=0)


def test_clients_at_the_same_time_hear_what_each_would_hear_alone(server: Running) -> None:
    """Four clients in three rows."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: server.speak(TEXTS[i], voice=VOICES[i % 2], seed=10 + i), range(4)))
    for i, answer in enumerate(answers):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "audio/pcm"
        assert answer.headers["x-sample-rate"] == "16000"
        assert_sounds_like(answer.content, alone(server, TEXTS[i], VOICES[i % 2], replace(OPTIONS, seed=10 + i)))
    assert len({answer.content for answer in answers}) == 4


def test_sixteen_clients_in_eight_rows_hear_what_each_would_hear_alone(model: Synthesizer, folder: Path) -> None:
    limits = ServerSettings(rows=8, queue=8, max_seconds=SECONDS)
    with serving(model, folder, limits) as server, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: server.speak(TEXTS[i % 4], voice=VOICES[i % 2], seed=i), range(16)))
        for i, answer in enumerate(answers):
            assert answer.status_code == 200
            assert_sounds_like(answer.content, alone(server, TEXTS[i % 4], VOICES[i % 2], replace(OPTIONS, seed=i)))
        assert len({answer.content for answer in answers}) == 16


def test_the_codes_are_those_of_generate(server: Running) -> None:
    """Of requests in the same rows, also with a sampling of their own."""
    greedy = replace(server.speaker.backbone.sampling, temperature=0.0)
    wishes = [replace(OPTIONS, seed=i, sampling=greedy if i == 2 else None) for i in range(4)]

    async def codes(i: int) -> Tensor:
        speaker, usage = server.speaker, Usage()
        async with aclosing(speaker.speak(TEXTS[i], speaker.voices["bob"], wishes[i], usage)) as chunks:
            spoken = torch.cat([chunk.codes async for chunk in chunks], dim=1)
        assert usage.output_tokens == spoken.numel()
        assert usage.input_tokens > 0
        return spoken

    async def together() -> list[Tensor]:
        return await asyncio.gather(*(codes(i) for i in range(4)))

    for i, spoken in enumerate(asyncio.run(together())):
        assert torch.equal(spoken, alone(server, TEXTS[i], "bob", wishes[i]).codes)


def test_sampling_and_seed_are_those_of_the_request(server: Running) -> None:
    answers = [
        server.speak(seed=5, sampling={"top_k": 3, "temperature": 0.7}).content,
        server.speak(seed=5).content,
        server.speak(seed=6).content,
        server.speak(seed=5).content,
    ]
    assert answers[1] == answers[3]
    assert len(set(answers)) == 3
    sampling = replace(server.speaker.backbone.sampling, top_k=3, temperature=0.7)
    assert_sounds_like(answers[0], alone(server, "so it is.", options=replace(OPTIONS, seed=5, sampling=sampling)))


def test_a_long_text_is_split_like_by_generate(
    model: Synthesizer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part has the limit of `generate`, which is made shorter here; a whole text has that of the server."""
    wish = replace(OPTIONS, seed=3)
    monkeypatch.setattr("wand.serving.bodies.Wishes.options", lambda *_: wish)
    text = " ".join(["every word is heard, and then another one is heard as well. why not speak again?"] * 3)
    with serving(model, folder, ServerSettings(rows=2, max_seconds=10 * SECONDS)) as server:
        whole = alone(server, "so it is.", options=replace(wish, max_seconds=10 * SECONDS))
        assert whole.codes.shape[1] > 50 * SECONDS
        assert_sounds_like(server.speak().content, whole)
        monkeypatch.setattr(model.backbone, "longest_prefix", 20)
        speech = alone(server, text, options=wish)
        assert speech.codes.shape[1] > 50 * SECONDS
        assert_sounds_like(server.speak(text).content, speech)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus"])
def test_formats_hold_the_same_sound(server: Running, name: str) -> None:
    answer = server.speak(response_format=name)
    sound = samples(server.speak().content)
    with soundfile.SoundFile(io.BytesIO(answer.content)) as file:
        heard = torch.from_numpy(file.read(dtype="float32"))
        assert file.samplerate == 16_000
        assert file.channels == 1
    lossless = name in ("wav", "flac")
    assert answer.headers["content-type"] == f"audio/{ {'mp3': 'mpeg', 'opus': 'ogg'}.get(name, name) }"
    if lossless:
        torch.testing.assert_close(heard, sound, atol=2.01 / 32767, rtol=0)
    else:  # encoders begin later, and end at a whole frame
        assert 0 <= len(heard) - len(sound) < 3000
        shift = max(range(2200), key=lambda i: float(heard[i : i + 6000] @ sound[:6000]))
        near = heard[shift : shift + 6000]
        assert torch.corrcoef(torch.stack([near, sound[:6000]]))[0, 1] > 0.8


def test_the_default_format_is_mp3(server: Running) -> None:
    with server.client as client:
        answer = client.post("/v1/audio/speech", json={"input": "so it is.", "voice": {"id": "anna"}, "model": "tiny"})
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.content == server.speak(response_format="mp3").content


def test_events_carry_the_same_sound(server: Running) -> None:
    answer = server.speak(stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * (len(events) - 1) + ["speech.audio.done"]
    assert len(events) > 2
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == server.speak().content
    usage = events[-1]["usage"]
    assert usage["input_tokens"] == len("so it is.")  # symbols, without the voice
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens"] == alone(server, "so it is.").codes.numel()


def test_first_seconds_is_the_length_of_the_first_part(server: Running) -> None:
    answer = server.speak(stream_format="sse", first_seconds=0.1)
    first = json.loads(answer.text.split("\n")[0].removeprefix("data: "))
    assert len(base64.b64decode(first["audio"])) == 2 * 1600


def test_lists_and_figures(server: Running) -> None:
    with server.client as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny"]
        assert client.get("/v1/models/tiny").json()["object"] == "model"
        assert [voice["id"] for voice in client.get("/v1/voices").json()["data"]] == ["anna", "bob"]
        assert client.get("/health").json()["status"] == "ok"
        figures = client.get("/metrics").text
        assert 'wand_responses_total{path="/v1/models",status="200"}' in figures
        page = client.get("/")
    assert "wand_first_sound_seconds_bucket" in figures
    assert page.headers["content-type"].startswith("text/html")
    assert "v1/audio/speech" in page.text
