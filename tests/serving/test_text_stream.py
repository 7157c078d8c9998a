"""Text that arrives through a WebSocket while it is spoken."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.serving.conftest import Running, make_model, serving
from wand.serving.formats import Pcm
from wand.serving.settings import ServerSettings
from wand.speech.speaking import SpeakOptions

TEXT = "one day a small bird sat on the wall of a garden. it sang so well that all who came by stood still."
LIMITS = ServerSettings(rows=1, queue=1, max_seconds=1.0, max_letters=200, idle_seconds=30.0)


@pytest.fixture(scope="module")
def speaking(folder: Path) -> Iterator[Running]:
    with serving(make_model(passages=True), folder, LIMITS) as running:
        yield running


@contextmanager
def opened(server: Running, *messages: object, origin: str | None = None) -> Iterator[ClientConnection]:
    url = server.url.replace("http", "ws") + "/v1/audio/speech/stream"
    with connect(url, origin=origin, proxy=None) as socket:
        for message in messages:
            socket.send(json.dumps(message))
        yield socket


def rest(socket: ClientConnection) -> tuple[bytes, list[dict[str, object]], int]:
    """The sound, the other messages, and the code of the end."""
    sound, others = b"", []
    try:
        while True:
            message = socket.recv(timeout=60)
            if isinstance(message, bytes):
                sound += message
            else:
                others.append(json.loads(message))
    except ConnectionClosed as closed:
        return sound, others, closed.rcvd.code if closed.rcvd else 0


def test_text_in_pieces_is_spoken_like_the_whole_text(speaking: Running) -> None:
    """One row: it is free for others while the text has not arrived."""
    with opened(speaking, {"voice": "anna", "seed": 4}, {"text": TEXT[:3]}) as socket:
        assert json.loads(socket.recv(timeout=60)) == {"type": "speech.begin", "sample_rate": 16_000}
        assert speaking.speak(seed=1).status_code == 200
        for i in range(3, len(TEXT), 7):
            socket.send(json.dumps({"text": TEXT[i : i + 7]}))
        socket.send(json.dumps({"end": True}))
        sound, others, code = rest(socket)
    assert code == 1000
    assert [message["type"] for message in others] == ["speech.done"]
    whole = speaking.speak(TEXT, seed=4)
    assert len(sound) > 20_000
    assert sound == whole.content
    assert speaking.becomes_idle()


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        pytest.param([{"voice": "nobody"}], "voice", id="voice"),
        pytest.param([{"text": "so it is."}], "voice", id="text-first"),
        pytest.param([[]], None, id="list"),
        pytest.param([{"voice": "anna"}, {"text": 3}], "text", id="number"),
        pytest.param([{"voice": "anna"}, {"text": "a" * 201}], "text", id="too-long"),
        pytest.param([{"voice": "anna"}, {"text": " "}, {"end": True}], "text", id="empty"),
    ],
)  # fmt: skip
def test_wrong_messages_are_named(speaking: Running, messages: list[object], param: str | None) -> None:
    with opened(speaking, *messages) as socket:
        _, others, code = rest(socket)
    assert code == 1008
    assert others[-1]["type"] == "error"
    assert others[-1]["error"]["param"] == param
    assert speaking.becomes_idle()


def test_binary_messages_are_refused_before_the_end_and_ignored_after_it(speaking: Running) -> None:
    for messages in ([], [{"voice": "anna"}, {"text": TEXT}]):
        with opened(speaking, *messages) as socket:
            socket.send(b"binary")
            _, others, code = rest(socket)
        assert code == 1008
        assert others[-1]["error"]["code"] == "invalid_json"
    with opened(speaking, {"voice": "anna", "seed": 4}, {"text": TEXT, "end": True}) as socket:
        socket.send(b"binary")
        socket.send("no JSON")
        sound, others, code = rest(socket)
    assert code == 1000
    assert others[-1]["type"] == "speech.done"
    assert sound == speaking.speak(TEXT, seed=4).content
    assert speaking.becomes_idle()


def test_a_client_that_leaves_frees_its_row(speaking: Running) -> None:
    for messages in (
        [{"voice": "anna"}],
        [{"voice": "anna"}, {"text": TEXT}],
        [{"voice": "anna"}, {"text": TEXT, "end": True}],
    ):
        with opened(speaking, *messages) as socket:
            socket.recv(timeout=60)
        assert speaking.becomes_idle()


def test_pages_of_other_sites_are_refused(speaking: Running) -> None:
    with pytest.raises(InvalidStatus) as error, opened(speaking, origin="http://evil.example"):
        pass
    assert error.value.response.status_code == 403
    assert json.loads(error.value.response.body)["error"]["code"] == "foreign_origin"


def test_hosts_of_other_sites_are_refused(speaking: Running) -> None:
    """No rule of browsers keeps a page from opening a WebSocket: its host and its origin are all there is."""
    url = httpx.URL(speaking.url)
    with (
        pytest.raises(InvalidStatus) as error,
        socket.create_connection((url.host, url.port)) as sock,
        connect(f"ws://evil.example:{url.port}/v1/audio/speech/stream", sock=sock, origin="http://evil.example"),
    ):
        pass
    assert error.value.response.status_code == 403
    assert json.loads(error.value.response.body)["error"]["code"] == "foreign_host"


def test_a_model_without_passages_says_why(server: Running) -> None:
    with opened(server, {"voice": "anna"}) as socket:
        _, others, code = rest(socket)
    assert code == 1008
    assert "alignment heads" in str(others[-1])


def test_the_sound_is_that_of_a_stream(speaking: Running) -> None:
    """Up to the limit of the server, which a stream does not have."""
    speaker = speaking.speaker
    synthesizer = make_model(passages=True)
    heard = speaking.speak(TEXT, seed=4).content
    pcm, alone = Pcm(), b""
    for chunk in synthesizer.stream(TEXT, speaker.voices["anna"], SpeakOptions(seed=4)):
        alone += pcm.add(chunk.audio)
        if len(alone) >= len(heard):
            break
    assert alone[: len(heard) - 2000] == heard[:-2000]
