"""wand's server in front of a real vLLM with the plugin: ``make test-vllm`` starts this test."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import Running, serving, until
from tests.serving.test_other_engine import Steps
from tests.serving.test_speech import alone, assert_sounds_like
from wand.serving.engines.remote import RemoteEngine
from wand.serving.server import bound_socket
from wand.serving.settings import ServerSettings
from wand.serving.speaker import server_rules
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import load

VLLM = Path(os.environ.get("WAND_VLLM", ""))
OPTIONS = SpeakOptions(max_seconds=3.0)
SETTINGS = ServerSettings(rows=8, queue=8, max_seconds=OPTIONS.max_seconds, model="out")
# The random model answers most texts with a stop at once. To these it speaks 11 to 40 columns; its window is 14.
TEXTS = ("and another one.", "a long way from here.", "we will see.", "a long way.")
# vLLM and wand draw other random numbers, so that only greedy speech can be compared. The penalty keeps it from loops.
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.3}
DRAWN = {"temperature": 0.5, "repetition_penalty": 1.3}
STARTS_WITHIN = 400

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VLLM.name, reason="needs vLLM in an environment of its own: make test-vllm"),
]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of vLLM, whose log is shown if it does not start."""
    with closing(bound_socket("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    model = VLLM / "exports" / "neutts" / "out"
    server = [str(VLLM / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", f"--port={port}"]
    named = [f"--model={model}", "--served-model-name=out", "--host=127.0.0.1"]
    small = ["--dtype=float32", "--enforce-eager", "--block-size=32", "--max-num-seqs=8"]
    known = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*server, *named, *small], env=os.environ | known, stdout=output, stderr=output, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(trust_env=False, verify=False) as client:
                started = until(lambda: process.poll() is not None or _answers(client, url), STARTS_WITHIN)
            assert started, log.read_text()[-5000:]
            assert process.poll() is None, log.read_text()[-5000:]
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its engine is a process of its own


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def running_requests(url: str) -> int:
    """Number of requests that vLLM speaks or holds."""
    figures = httpx.get(f"{url}/metrics", trust_env=False).text
    found = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} ([0-9.]+)$", figures, re.MULTILINE)
    assert len(found) == 2
    return round(sum(map(float, found)))


@pytest.fixture(scope="module")
def front(vllm: str, folder: Path) -> Iterator[Running]:
    model = load(VLLM / "exports" / "neutts" / "out", codec=Steps())
    engine = RemoteEngine.connect(vllm, model.backbone, server_rules(model, SETTINGS), "out")
    with serving(model, folder, SETTINGS, engine) as running:
        yield running


def test_clients_at_the_same_time_hear_what_wand_alone_would_speak(front: Running) -> None:
    sampling = replace(front.speaker.backbone.sampling, **GREEDY)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda text: front.speak(text, sampling=GREEDY), TEXTS))
    for text, answer in zip(TEXTS, answers, strict=True):
        assert answer.status_code == 200, answer.text
        assert_sounds_like(answer.content, alone(front, text, options=replace(OPTIONS, sampling=sampling)))


def test_the_seed_decides_sampled_speech(front: Running) -> None:
    first, again, other = (front.speak(TEXTS[0], seed=seed, sampling=DRAWN).content for seed in (1, 1, 2))
    assert len(first) > 1000
    assert first == again
    assert first != other


def test_a_client_that_leaves_ends_its_request_in_vllm(front: Running, vllm: str) -> None:
    body = {"input": TEXTS[0], "voice": "anna", "response_format": "pcm", "sampling": GREEDY}
    for _ in range(3):
        with front.client as client, client.stream("POST", "/v1/audio/speech", json=body) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw())
    assert until(lambda: running_requests(vllm) == 0)
    assert front.speak().status_code == 200
