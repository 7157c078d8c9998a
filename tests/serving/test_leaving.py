"""Clients that leave, and the end of the server."""

from __future__ import annotations

import asyncio
import gc
import json
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
from wand.serving.engines.own import WAYS
from wand.serving.errors import ApiError
from wand.serving.settings import ServerSettings
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer

BODY = {"input": "so it is.", "voice": "anna", "response_format": "pcm"}
ENDLESS = ServerSettings(rows=2, queue=2, max_seconds=3000.0)


@pytest.fixture
def forever(model: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> Synthesizer:
    """A model whose speeches are longer than any test waits: it does not stop by itself."""
    forbidden = model.backbone.forbidden_tokens()
    assert forbidden is not None
    forbidden = forbidden.clone()
    forbidden[0, list(model.backbone.stop_ids)] = True
    monkeypatch.setattr(model.backbone, "forbidden_tokens", lambda: forbidden)
    return model


@pytest.fixture
def endless(forever: Synthesizer, folder: Path) -> Iterator[Running]:
    with serving(forever, folder, ENDLESS) as running:
        yield running


def asking_socket(server: Running) -> socket.socket:
    """A client that has sent a request, and takes few bytes before it reads."""
    url, body = httpx.URL(server.url), json.dumps(BODY)
    head = f"host: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((url.host, url.port))
    client.sendall(f"POST /v1/audio/speech HTTP/1.1\r\n{head}\r\n\r\n{body}".encode())
    return client


def read_all(client: socket.socket) -> bytes:
    content = b""
    while part := client.recv(1 << 16):
        content += part
    return content


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
    clients = []
    for count in range(1, 4):
        clients.append(asking_socket(endless))
        assert until(lambda count=count: endless.speaker.active == count)
    clients[2].close()
    assert until(lambda: endless.speaker.active == 2)
    for client in clients:
        client.close()
    assert endless.becomes_idle()


def test_a_client_that_does_not_read_is_disconnected(
    forever: Synthesizer, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two clients, one reads the beginning of its response only. The other one is served all the time."""
    monkeypatch.setattr("wand.serving.server.KERNEL_BYTES", 4096)  # so that little sound fills it
    with serving(forever, folder, replace(ENDLESS, send_seconds=0.5)) as server:
        with server.client as client, client.stream("POST", "/v1/audio/speech", json=BODY) as answer:
            parts = answer.iter_bytes(1000)
            with asking_socket(server) as unread:
                assert unread.recv(15) == b"HTTP/1.1 200 OK"
                assert server.speaker.active == 2
                assert until(lambda: bool(next(parts)) and server.speaker.active == 1)
                assert not read_all(unread).endswith(b"0\r\n\r\n")  # the response has no end
            assert len([next(parts) for _ in range(20)]) == 20
        assert server.becomes_idle()
        assert b"wand_unread_connections_total 1.0" in server.metrics.text()
        assert "127.0.0.1 port" in caplog.text
        assert "has read nothing for" in caplog.text


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
