"""OpenAI's own client against the server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.serving.conftest import Running


@pytest.fixture
def client(server: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_speech_is_written_to_a_file(client: OpenAI, server: Running, tmp_path: Path) -> None:
    answer = client.audio.speech.create(model="tiny", voice="anna", input="so it is.", response_format="wav")
    answer.write_to_file(tmp_path / "speech.wav")
    assert (tmp_path / "speech.wav").read_bytes() == server.speak(response_format="wav").content


def test_speech_is_streamed(client: OpenAI, server: Running) -> None:
    wish = {"model": "tiny", "voice": "anna", "input": "so it is.", "response_format": "pcm"}
    with client.audio.speech.with_streaming_response.create(**wish, extra_body={"seed": 7}) as answer:
        parts = list(answer.iter_bytes())
    assert len(parts) > 1
    assert b"".join(parts) == server.speak(seed=7).content


def test_events_are_streamed(client: OpenAI, server: Running) -> None:
    wish = {"model": "tiny", "voice": "anna", "input": "so it is.", "response_format": "pcm", "stream_format": "sse"}
    with client.audio.speech.with_streaming_response.create(**wish) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events if event["type"] == "speech.audio.delta")
    assert sound == server.speak().content
    assert events[-1]["type"] == "speech.audio.done"


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "wand"


def test_errors_are_those_of_the_client(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as error:
        client.audio.speech.create(model="tiny", voice="nobody", input="so it is.")
    assert error.value.param == "voice"
    assert error.value.code == "voice_not_found"
    assert error.value.request_id
    with pytest.raises(NotFoundError):
        client.models.retrieve("another")
