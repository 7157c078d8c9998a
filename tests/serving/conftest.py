"""A server that listens, with a tiny random model and the embedded codec."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import torch

from tests.workplace import SHAPE
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.files.audio import write_audio
from wand.model.alignment import AlignmentHead
from wand.serving.app import make_app
from wand.serving.engines.base import SpeechEngine
from wand.serving.engines.own import EngineThread
from wand.serving.gate import Gate
from wand.serving.metrics import Metrics
from wand.serving.server import Server, bound_socket
from wand.serving.settings import ServerSettings
from wand.serving.speaker import Speaker
from wand.serving.voices import Voices
from wand.speech.synthesizer import Synthesizer

# Longest speech of the servers in tests, in seconds: a random model does not end by itself.
SECONDS = 0.6
PATIENCE = 60.0


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    server: Server
    gate: Gate
    speaker: Speaker
    metrics: Metrics

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def speak(self, text: str = "so it is.", **fields: object) -> httpx.Response:
        body = {"input": text, "voice": "anna", "response_format": "pcm", **fields}
        with self.client as client:
            return client.post("/v1/audio/speech", json=body)

    @property
    def engine(self) -> EngineThread:
        assert isinstance(self.speaker.engine, EngineThread)
        return self.speaker.engine

    def becomes_idle(self) -> bool:
        """Whether all rows are free, at once or soon."""
        return until(lambda: not (self.speaker.active or self.speaker.engine.open))


def until(true: Callable[[], bool], patience: float = PATIENCE) -> bool:
    end = time.monotonic() + patience
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def make_model(*, passages: bool = False, reference_seconds: float = 0.2) -> Synthesizer:
    torch.manual_seed(0)
    lm = EncodecLM(architecture=EncodecLMArchitecture(**SHAPE, reference_seconds=reference_seconds)).eval()
    if passages:
        lm.alignment_heads = (AlignmentHead(0, 0),)
    return Synthesizer(lm, AttentionWindow(8), lm.load_codec())


@pytest.fixture(scope="session")
def model() -> Synthesizer:
    return make_model()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two voices, and a file that is none."""
    folder = tmp_path_factory.mktemp("voices")
    noise = torch.Generator().manual_seed(0)
    for name in ("anna", "bob"):
        write_audio(folder / f"{name}.wav", 0.1 * torch.randn(16_000, generator=noise), 16_000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


@contextmanager
def serving(
    model: Synthesizer, folder: Path, settings: ServerSettings, engine: SpeechEngine | None = None
) -> Iterator[Running]:
    metrics = Metrics()
    speaker = Speaker(model, Voices(model, folder), settings, metrics, engine)
    gate = make_app(speaker, settings, metrics)
    server = Server(gate, settings, bound_socket("127.0.0.1", 0), metrics)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert until(lambda: server.started)
    try:
        yield Running(server, gate, speaker, metrics)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert not speaker.engine.alive


@pytest.fixture(scope="session")
def server(model: Synthesizer, folder: Path) -> Iterator[Running]:
    with serving(model, folder, ServerSettings(rows=3, queue=8, max_seconds=SECONDS, model="tiny")) as running:
        yield running
