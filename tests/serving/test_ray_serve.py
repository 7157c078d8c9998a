"""The script of docs/serving.md on a local Ray: two replicas, of which one is lost."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from websockets.sync.client import ClientConnection, connect

import wand
from tests.cli.test_ray import ROOT, SLOWLY
from tests.runs.test_export import save_run
from tests.serving.conftest import Running, make_model, serving, until
from tests.serving.test_speech import samples
from tests.serving.test_text_stream import TEXT, rest
from wand.serving.server import bound_socket
from wand.serving.settings import ServerSettings

SCRIPT = "serve_on_ray"
SECONDS = 2.0
PATIENCE = 300.0

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (wand-tts[ray])"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny model, which speaks text in pieces."""
    return save_run(make_model(passages=True).backbone, tmp_path_factory.mktemp("served") / "voice", window=8)


@pytest.fixture(scope="module")
def single(run: Path, folder: Path) -> Iterator[Running]:
    """A server without Ray."""
    with serving(wand.load(run), folder, ServerSettings(rows=1, max_seconds=SECONDS)) as running:
        yield running


@pytest.fixture(scope="module")
def address(run: Path, folder: Path) -> Iterator[str]:
    """Two replicas of the page's script, each with one row."""
    page = (ROOT / "docs" / "serving.md").read_text()
    (text,) = re.findall(rf'```python title="{SCRIPT}.py"\n(.*?)```', page, re.DOTALL)
    (run.parent / f"{SCRIPT}.py").write_text(text)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in SLOWLY.items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(str(run.parent))
        monkeypatch.setenv("PYTHONPATH", ":".join([str(run.parent), str(ROOT), *filter(None, sys.path)]))
        # Ray waits only 15 s for the agent of its dashboard, which is not started without this package.
        monkeypatch.setitem(sys.modules, "aiohttp_cors", None)
        import ray
        from ray import serve

        script: Any = importlib.import_module(SCRIPT)
        sizes = {"rows": 1, "max_seconds": SECONDS, "gpus": 0, "cpus": 0.5, "min_replicas": 2, "max_replicas": 2}
        with bound_socket("127.0.0.1", 0) as place:
            port = place.getsockname()[1]
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**27, logging_level="error")
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(script.app(script.Options(ckpt_path=str(run), voices=str(folder), **sizes)))
            assert until(lambda: len(replicas()) == 2, PATIENCE)
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


def replicas() -> set[str]:
    """Names of the replicas' actors."""
    from ray.util import list_named_actors

    names = {actor["name"] for actor in list_named_actors(all_namespaces=True)}
    return {name for name in names if "WandServer" in name}


def speak(address: str, text: str, seed: int) -> tuple[int, list[bytes]]:
    """Status and parts of a sound."""
    body = {"input": text, "voice": "anna", "response_format": "pcm", "seed": seed}
    with (
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
        client.stream("POST", "/v1/audio/speech", json=body) as answer,
    ):
        return answer.status_code, list(answer.iter_raw())


def assert_same_sound(found: bytes, expected: bytes) -> None:
    """To one step of 16 bit."""
    assert len(found) == len(expected) > 10_000
    torch.testing.assert_close(samples(found), samples(expected), atol=1.01 / 32767, rtol=0)


def test_the_sound_is_that_of_one_server_and_comes_in_parts(address: str, single: Running) -> None:
    for seed in range(4):
        status, parts = speak(address, "so it is.", seed)
        assert status == 200
        assert len(parts) > 1
        assert_same_sound(b"".join(parts), single.speak("so it is.", seed=seed).content)


def test_both_replicas_speak_text_that_arrives(address: str, single: Running) -> None:
    """Each replica takes one request at a time, so two open WebSockets are two replicas."""
    with ExitStack() as stack:
        sockets: list[ClientConnection] = []
        for seed in (1, 2):
            url = address.replace("http", "ws") + "/v1/audio/speech/stream"
            sockets.append(stack.enter_context(connect(url, proxy=None, open_timeout=PATIENCE)))
            sockets[-1].send(json.dumps({"voice": "anna", "seed": seed}))
            sockets[-1].send(json.dumps({"text": TEXT[:9]}))
            assert json.loads(sockets[-1].recv(timeout=PATIENCE))["type"] == "speech.begin"
        for seed, socket in enumerate(sockets, start=1):
            socket.send(json.dumps({"text": TEXT[9:]}))
            socket.send(json.dumps({"end": True}))
            sound, others, _ = rest(socket)
            assert [message["type"] for message in others] == ["speech.done"]
            assert_same_sound(sound, single.speak(TEXT, seed=seed).content)


def test_a_replica_that_ends_does_not_end_the_service(address: str, single: Running) -> None:
    import ray

    lost = min(replicas())
    ray.kill(ray.get_actor(lost, namespace="serve"), no_restart=True)
    assert until(lambda: speak(address, "why not?", 5)[0] == 200, PATIENCE)
    assert_same_sound(b"".join(speak(address, "why not?", 5)[1]), single.speak("why not?", seed=5).content)
    assert until(lambda: len(replicas() - {lost}) == 2, PATIENCE)
    assert speak(address, "why not?", 6)[0] == 200
