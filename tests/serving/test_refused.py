"""Bad requests get their status and a JSON error, and cost nothing: the next good one is answered."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.serving.conftest import SECONDS, Running, serving
from wand.serving import gate
from wand.serving.errors import ApiError
from wand.serving.settings import ServerSettings, hosts_at
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer

GOOD = {"input": "so it is.", "voice": "anna", "response_format": "pcm"}


def post(server: Running, body: object, **how: object) -> httpx.Response:
    with server.client as client:
        if isinstance(body, bytes):
            return client.post("/v1/audio/speech", content=body, headers={"content-type": "application/json"}, **how)
        return client.post("/v1/audio/speech", json=body, **how)


def assert_refused(answer: httpx.Response, status: int, param: str | None, code: str | None = None) -> str:
    """An error in OpenAI's shape."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert code is None or error["code"] == code
    assert "\n" not in error["message"]
    assert answer.headers["x-request-id"]
    return error["message"]


def spoken(server: Running) -> float:
    """Number of requests that went as far as the engine."""
    return sum(
        sample.value
        for metric in server.metrics.speeches.collect()
        for sample in metric.samples
        if "total" in sample.name
    )


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        pytest.param({"input": ""}, 400, "input", id="no-text"),
        pytest.param({"input": " \n "}, 400, "input", id="blank-text"),
        pytest.param({"input": None}, 400, "input", id="null-text"),
        pytest.param({"input": 3}, 400, "input", id="number-as-text"),
        pytest.param({"input": "a" * 4097}, 400, "input", id="long-text"),
        pytest.param({"voice": "nobody"}, 400, "voice", id="unknown-voice"),
        pytest.param({"voice": "../voices/anna"}, 400, "voice", id="traversal"),
        pytest.param({"voice": "/etc/passwd"}, 400, "voice", id="absolute-path"),
        pytest.param({"voice": {"id": "anna\0"}}, 400, "voice", id="nul-in-voice"),
        pytest.param({"voice": {"name": "anna"}}, 400, "voice", id="voice-without-id"),
        pytest.param({"voice": ["anna"]}, 400, "voice", id="voices"),
        pytest.param({"model": "another"}, 404, "model", id="unknown-model"),
        pytest.param({"response_format": "aac"}, 400, "response_format", id="aac"),
        pytest.param({"response_format": "exe"}, 400, "response_format", id="unknown-format"),
        pytest.param({"stream_format": "webm"}, 400, "stream_format", id="unknown-stream-format"),
        pytest.param({"speed": 1.5}, 400, "speed", id="speed"),
        pytest.param({"speed": "1"}, 400, "speed", id="speed-as-text"),
        pytest.param({"instructions": "in a whisper"}, 400, "instructions", id="instructions"),
        pytest.param({"seed": 2**63}, 400, "seed", id="large-seed"),
        pytest.param({"seed": True}, 400, "seed", id="seed-as-switch"),
        pytest.param({"sampling": {"top_p": 0}}, 400, "sampling", id="top-p"),
        pytest.param({"sampling": 1}, 400, "sampling", id="sampling-as-number"),
        pytest.param({"first_seconds": -1}, 400, "first_seconds", id="first-seconds"),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(server: Running, change: dict[str, object], status: int, param: str) -> None:
    before = spoken(server)
    assert_refused(post(server, {**GOOD, **change}), status, param)
    assert spoken(server) == before
    assert server.engine.idle


def test_bodies_that_are_no_request_are_refused(server: Running) -> None:
    assert_refused(post(server, b"{"), 400, None, "invalid_json")
    assert_refused(post(server, b"[" * 60_000), 400, None)
    assert_refused(post(server, b"\xff\xfe"), 400, None)
    assert_refused(post(server, b"[]"), 400, None)
    assert_refused(post(server, b'{"input": "\\ud800", "voice": "anna"}'), 400, "input")
    assert_refused(post(server, b'{"input": "a", "voice": "anna", "speed": NaN}'), 400, "speed")
    with server.client as client:
        assert_refused(client.get("/v1/audio/speech"), 405, None)
        assert_refused(client.get("/v1/nothing"), 404, None)
        assert_refused(client.get("/v1/models/nothing"), 404, "model")
        assert_refused(client.post("/v1/voices", files={"file": b"x"}), 405, None)


def test_huge_bodies_are_refused_before_they_are_read(server: Running) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            yield b"a" * 1000

    assert_refused(post(server, {**GOOD, "input": "a" * 1_000_000}), 413, None, "body_too_large")
    with server.client as client:
        chunked = client.post("/v1/audio/speech", content=endless(), headers={"content-type": "application/json"})
    assert_refused(chunked, 413, None, "body_too_large")


@pytest.mark.parametrize(
    ("headers", "sent"), [("", 16_000_000), ("", 10_000), ("Expect: 100-continue\r\n", 0)], ids=["all", "part", "none"]
)
def test_the_client_of_a_huge_body_reads_its_refusal(
    server: Running, headers: str, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "DISCARD_SECONDS", 30.0 if sent == 16_000_000 else 0.2)
    place = httpx.URL(server.url)
    with socket.create_connection((place.host, place.port), timeout=60) as client:
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: 16000000\r\n\r\n"
        client.sendall(head.encode() + b"a" * sent)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"}")
    assert b"body_too_large" in answer


def test_unknown_fields_are_ignored(server: Running) -> None:
    assert post(server, {**GOOD, "user": "me", "temperature": []}).content == post(server, GOOD).content


def test_a_request_beyond_the_queue_is_told_to_wait(server: Running) -> None:
    """Each request holds its room until it ends, also while nothing reads its sound."""
    speaker = server.speaker
    most = speaker.settings.rows + speaker.settings.queue

    async def crowd() -> ApiError:
        open_ones = [speaker.speak("so it is.", speaker.voices["anna"], SpeakOptions()) for _ in range(most)]
        for chunks in open_ones:
            await anext(chunks)
        try:
            answer = await asyncio.to_thread(post, server, GOOD)
            assert_refused(answer, 429, None, "queue_full")
            assert int(answer.headers["retry-after"]) > 0
            with pytest.raises(ApiError) as error:
                await anext(speaker.speak("so it is.", speaker.voices["anna"], SpeakOptions()))
        finally:
            for chunks in open_ones:
                await chunks.aclose()
        return error.value

    assert asyncio.run(crowd()).status_code == 429
    assert server.becomes_idle()
    assert post(server, GOOD).status_code == 200


def test_an_error_of_one_request_reaches_only_its_client(server: Running) -> None:
    """The prefix of one request is not finite, while another one is being spoken."""
    speaker = server.speaker
    embed = speaker.backbone.embed_prefix

    async def both() -> tuple[ApiError, Tensor]:
        async with aclosing(speaker.speak("so it is.", speaker.voices["anna"], SpeakOptions())) as good:
            parts = [(await anext(good)).codes]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(speaker.backbone, "embed_prefix", lambda batch: embed(batch) * float("nan"))
                with pytest.raises(ApiError) as error:
                    await anext(speaker.speak("why not?", speaker.voices["bob"], SpeakOptions()))
            return error.value, torch.cat([*parts, *[chunk.codes async for chunk in good]], dim=1)

    error, codes = asyncio.run(both())
    assert error.status_code == 500
    own = Synthesizer(speaker.backbone, speaker.window, speaker.codec)
    (speech,) = own.generate("so it is.", speaker.voices["anna"], SpeakOptions(max_seconds=SECONDS))
    assert torch.equal(codes, speech.codes)
    assert server.becomes_idle()


def test_an_engine_that_fails_starts_again(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("wand.decoding.rows.Rows.draw", lambda self: 1 / 0)
        assert_refused(post(server, GOOD), 500, None)
    assert server.becomes_idle()
    assert post(server, GOOD).status_code == 200


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
FIELDS = st.sampled_from(
    ["input", "voice", "model", "speed", "seed", "sampling", "response_format", "stream_format", "first_seconds", "x"]
)


@settings(max_examples=30)
@given(change=st.dictionaries(FIELDS, VALUES, min_size=1, max_size=4))
def test_no_body_breaks_the_server(server: Running, change: dict[str, object]) -> None:
    body = json.dumps({**GOOD, "input": 0, **change})  # a good field may replace the bad one
    answer = post(server, body.encode())
    assert answer.status_code in (200, 400, 404, 413)
    assert server.engine.alive


def test_a_key_is_asked_for(model: Synthesizer, folder: Path) -> None:
    limits = ServerSettings(rows=1, queue=0, max_seconds=0.2, key="open sesame")
    with serving(model, folder, limits) as server, server.client as client:
        assert client.get("/health").status_code == 200
        assert client.get("/").status_code == 200
        for wrong in ("Bearer wrong", "open sesame", "Basic open sesame", "Bearer", "Bearer open sesame 2"):
            assert_refused(client.get("/v1/voices", headers={"authorization": wrong}), 401, None, "invalid_api_key")
        for headers in ({}, {"authorization": "Bearer wrong"}):
            assert_refused(client.get("/v1/voices", headers=headers), 401, None, "invalid_api_key")
            assert_refused(client.get("/metrics", headers=headers), 401, None)
        for right in ("Bearer open sesame", "bearer open sesame", "BEARER  open sesame"):
            assert client.get("/v1/voices", headers={"authorization": right}).status_code == 200


def test_a_key_may_have_any_letters(model: Synthesizer, folder: Path) -> None:
    """Programs send UTF-8; browsers send the letters of latin-1 in latin-1."""
    with serving(model, folder, ServerSettings(rows=1, key="schlüssel")) as server, server.client as client:
        for encoding in ("utf-8", "latin-1"):
            sent = {"authorization": "Bearer schlüssel".encode(encoding)}
            assert client.get("/v1/voices", headers=sent).status_code == 200
            other = {"authorization": "Bearer schlüssal".encode(encoding)}
            assert_refused(client.get("/v1/voices", headers=other), 401, None, "invalid_api_key")


@pytest.mark.parametrize("key", ["", " ", "abc\n", "\tabc", "a\r\nb", "a\0b", "a\udcfcb"])
def test_keys_that_no_client_can_send_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"the key of the server (is empty|cannot be sent in a header)"):
        ServerSettings(key=key)


def test_pages_of_other_sites_are_refused(server: Running) -> None:
    with server.client as client:
        for origin in ("http://evil.example", "null", "http://["):
            assert_refused(client.get("/v1/voices", headers={"origin": origin}), 403, None)
        own = client.get("/v1/voices", headers={"origin": server.url})
        assert own.status_code == 200
        assert not [name for name in own.headers if name.startswith("access-control")]
        assert client.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
        assert client.get("/health", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_hosts_of_other_sites_are_refused(server: Running) -> None:
    """DNS rebinding: the name of another site leads to this server, whose answers its page may read."""
    port = httpx.URL(server.url).port
    with server.client as client:
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.:1", "a/localhost"):
            answer = client.get("/health", headers={"host": host, "origin": f"http://{host}"})
            assert "--allowed_hosts" in assert_refused(answer, 403, None, "foreign_host")
        for host in ("127.0.0.1", "LocalHost:1", "[::1]", f"[::1]:{port}"):
            assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("address", "named", "allowed", "refused"),
    [
        ("127.0.0.1", [], ["127.0.0.1", "localhost", "[::1]"], ["speech.example"]),
        ("127.0.0.2", ["Speech.Example"], ["127.0.0.2", "localhost", "speech.example"], ["evil.example"]),
        ("::1", [], ["[::1]", "localhost"], ["evil.example"]),
        ("0.0.0.0", ["speech.example"], ["speech.example"], ["localhost", "evil.example"]),
    ],
)
def test_hosts_depend_on_the_address(address: str, named: list[str], allowed: list[str], refused: list[str]) -> None:
    hosts = hosts_at(address, named)
    assert hosts is not None
    assert set(allowed) <= set(hosts)
    assert not set(refused) & set(hosts)


def test_a_server_for_other_machines_knows_no_host_by_itself() -> None:
    assert hosts_at("0.0.0.0", []) is None
    with pytest.raises(ValueError, match="give names or addresses"):
        ServerSettings(allowed_hosts=("http://speech.example",))
