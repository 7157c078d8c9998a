"""Clients that leave, and the end of the server."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import Running, serving, until
from wand.decoding.speeches import Speech
from wand.serving.engine import WAYS
from wand.serving.errors import ApiError
from wand.serving.settings import ServerSettings
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer

BODY = {"input": "so it is.", "voice": "anna", "response_format": "pcm"}
ENDLESS = ServerSettings(rows=2, queue=2, max_seconds=3000.0)


@pytest.fixture
def endless(model: Synthesizer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server whose speeches are longer than any test waits: the model does not stop by itself."""
    forbidden = model.backbone.forbidden_tokens()
    assert forbidden is not None
    forbidden = forbidden.clone()
    forbidden[0, list(model.backbone.stop_ids)] = True
    monkeypatch.setattr(model.backbone, "forbidden_tokens", lambda: forbidden)
    monkeypatch.setattr("wand.serving.speaker.DEFAULT_OPTIONS", SpeakOptions(max_seconds=3000.0))
    with serving(model, folder, ENDLESS) as running:
        yield running


def test_a_client_that_leaves_frees_its_row(endless: Running) -> None:
    for _ in range(3):  # more clients than rows
        with endless.client as client, client.stream("POST", "/v1/audio/speech", json=BODY) as answer:
            assert answer.status_code == 200
            parts = answer.iter_bytes(100)
            assert len(next(parts)) == 100
            assert endless.speaker.active == 1
        assert endless.becomes_idle()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Speech]


def test_a_client_that_leaves_before_the_first_sound_frees_its_row(endless: Running) -> None:
    """Of three clients, the last one waits for a row."""
    url = httpx.URL(endless.url)
    body = b'{"input": "so it is.", "voice": "anna"}'
    head = f"POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    clients = []
    for count in range(1, 4):
        client = socket.create_connection((url.host, url.port))
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        clients.append(client)
        assert until(lambda count=count: endless.speaker.active == count)
    clients[2].close()
    assert until(lambda: endless.speaker.active == 2)
    for client in clients:
        client.close()
    assert endless.becomes_idle()


def test_ways_of_sampling_are_limited_at_the_same_time_only(endless: Running) -> None:
    speaker, sampling = endless.speaker, endless.speaker.backbone.sampling
    ways = [SpeakOptions(sampling=replace(sampling, temperature=0.2 + i)) for i in range(WAYS)]

    async def speak_a_little() -> None:
        open_ones = [speaker.speak("so it is.", speaker.voices["anna"], way) for way in ways]
        for chunks in open_ones[:-1]:
            await anext(chunks)
        with pytest.raises(ApiError, match="ways already"):
            await anext(open_ones[-1])
        for chunks in open_ones:
            await chunks.aclose()
        async with aclosing(speaker.speak("so it is.", speaker.voices["anna"], ways[-1])) as chunks:
            await anext(chunks)

    asyncio.run(speak_a_little())
    assert endless.becomes_idle()


def test_a_signal_ends_the_server_after_its_requests(model: Synthesizer, folder: Path) -> None:
    limits = ServerSettings(rows=1, queue=1, max_seconds=1.0)
    with serving(model, folder, limits) as server:
        whole = server.speak().content
        refused: list[httpx.Response] = []
        with server.client as client, client.stream("POST", "/v1/audio/speech", json=BODY) as answer:
            parts = answer.iter_bytes()
            heard = [next(parts)]
            server.server.handle_exit(signal.SIGTERM, None)
            asking = threading.Thread(target=lambda: refused.append(server.speak()))
            asking.start()
            asking.join()
            heard += list(parts)
        assert b"".join(heard) == whole
        assert refused[0].status_code == 503
        assert refused[0].json()["error"]["type"] == "server_error"
        assert until(lambda: not server.engine.alive)
