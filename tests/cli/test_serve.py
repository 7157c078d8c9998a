"""What `wand serve` refuses before it loads a model, and a server in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import torch

from tests.backbones.test_causal_lm import make_model
from tests.processes import command, end, start
from tests.runs.test_export import save_run
from tests.serving.vllm_stand_in import StandIn, listening
from tests.workplace import Workplace
from wand.cli import main
from wand.cli.serve import _name_of
from wand.files.audio import write_audio
from wand.runs.export import export
from wand.speech.synthesizer import load

SAMPLES = "runs/quickstart/samples"
# A codec of the user, without weights: a frame is 20 ms of a constant level, which is its code.
CODEC = """
from wand.codecs import Codec

class Steps(Codec):
    sample_rate, frame_rate, num_codebooks, codebook_size, causal = 16_000, 50.0, 1, 12, True
    fingerprint = "steps"

    def encode(self, audio, sample_rate):
        return (audio[:, :, ::320].abs() * 12).long().clamp(0, 11)

    def decode(self, codes, reference=None):
        return (codes.float().mean(1, keepdim=True) / 12).repeat_interleave(320, dim=-1)

    def to(self, device):
        return self
"""


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else known(name))
    assert "needs uvicorn: pip install 'wand-tts[serve]'" in refused(capsys, "--voices", str(tmp_path))


def test_what_cannot_work_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    voices = ["--voices", str(tmp_path)]
    assert "--voices" in refused(capsys)
    assert "no is not a folder" in refused(capsys, "--voices", str(tmp_path / "no"))
    assert "--port 70000" in refused(capsys, *voices, "--port", "70000")
    assert "rows 0 is not positive" in refused(capsys, *voices, "--rows", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Address already in use" in refused(capsys, *voices, "--port", str(taken.getsockname()[1]))


def test_an_empty_key_is_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WAND_SERVE_KEY", "")
    assert "the key of the server is empty" in refused(capsys, "--voices", str(tmp_path))


def test_a_folder_without_voices_is_refused(run: Workplace, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("--ckpt_path", "runs/quickstart", "--voices", str(tmp_path), "--port", "0")
    assert "has no voice that can be used" in refused(capsys, *arguments)


@contextmanager
def started(log: Path, *options: str) -> Iterator[str]:
    """The address of a server in a process of its own, which a signal ends. `log` is named ``0.txt``."""
    arguments = ["serve", "--port", "0", "--max_seconds", "0.5", *options]
    (process,) = start(command, (arguments,), [{}], log.parent)
    try:
        while not (log.is_file() and (found := re.search(r"listens on (\S+)", log.read_text()))):
            assert process.is_alive(), log.read_text()
            time.sleep(0.1)
        yield found[1]
    finally:
        process.terminate()
        (status,) = end([process])
    assert status == 0, log.read_text()


def speak(address: str, **wish: str) -> httpx.Response:
    body = {"input": "so it is.", "response_format": "wav", **wish}
    return httpx.post(f"{address}/v1/audio/speech", json=body, timeout=60, trust_env=False)


def test_a_run_is_served_until_a_signal(run: Workplace, tmp_path: Path) -> None:
    log = tmp_path / "0.txt"
    with started(log, "--voices", SAMPLES) as address:  # the newest run
        answer = speak(address, voice="0-reference", model="quickstart")
    (tmp_path / "out.wav").write_bytes(answer.content)
    assert soundfile.info(tmp_path / "out.wav").duration == 0.5
    assert re.search(rf"{answer.headers['x-request-id']} POST /v1/audio/speech 200", log.read_text())


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The export of a tiny Llasa, whose codec only a config names, and a voice for it."""
    monkeypatch.chdir(tmp_path)
    export(save_run(make_model(tmp_path / "original", "llasa"), tmp_path / "run"), tmp_path / "tiny")
    Path("own_codec.py").write_text(CODEC)
    Path("own.yaml").write_text("data: {codec: {class_path: own_codec.Steps}}")
    Path("none.yaml").write_text("data: {batch_size: 1}")
    noise = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    write_audio(tmp_path / "voices" / "anna.wav", noise, 16_000)
    return tmp_path / "tiny"


def test_a_model_without_a_codec_is_refused(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--ckpt_path", "tiny", "--voices", "voices", "--port", "0")
    assert "tiny names no codec for CausalSpeechLM: give --config" in refused(capsys, *arguments)
    assert "none.yaml has no section 'data.codec'" in refused(capsys, *arguments, "--config", "none.yaml")
    Path("none.yaml").write_text("data: {codec: {class_path: wand.LossTerms}}")
    assert "none.yaml: data.codec cannot be built" in refused(capsys, *arguments, "--config", "none.yaml")


def test_the_model_is_named_as_its_folder(exported: Path, tmp_path: Path) -> None:
    checkpoint = "run/checkpoints/best.ckpt"
    (tmp_path / "runs").mkdir()
    for path, name in (("tiny", "tiny"), (str(exported), "tiny"), ("run", "run"), (checkpoint, "run")):
        assert _name_of(path) == name
    (tmp_path / "alone.ckpt").write_bytes(Path(checkpoint).read_bytes())
    assert _name_of("alone.ckpt") == "alone.ckpt"
    (tmp_path / "run").rename(tmp_path / "runs" / "newest")
    assert _name_of("last") == "newest"


@pytest.mark.parametrize("engine", ["own", "other"])
def test_a_config_names_the_codec_of_an_export(exported: Path, engine: str, tmp_path: Path) -> None:
    log, arguments = tmp_path / "0.txt", ["--ckpt_path", "tiny", "--voices", "voices", "--config", "own.yaml"]
    with ExitStack() as stack:
        if engine == "other":
            stand_in = stack.enter_context(listening(StandIn(load(exported))))
            arguments += ["--engine", stand_in.url]
        address = stack.enter_context(started(log, *arguments))
        answer = speak(address, voice="anna", response_format="pcm")
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-sample-rate"] == "16000"
        levels = np.frombuffer(answer.content, "<i2").reshape(-1, 320)
        assert len(levels)
        assert (levels == levels[:, :1]).all()  # frames of this codec
        assert engine == "own" or [body["stream"] for body in stand_in.asked if body.get("stream")]
