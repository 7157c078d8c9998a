"""What `wand serve` refuses before it loads a model, and a server in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import socket
import time
from pathlib import Path

import httpx
import pytest
import soundfile

from tests.processes import command, end, start
from tests.workplace import Workplace
from wand.cli import main

SAMPLES = "runs/quickstart/samples"


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


def test_a_run_is_served_until_a_signal(run: Workplace, tmp_path: Path) -> None:
    arguments = ["serve", "--ckpt_path", "runs/quickstart", "--voices", SAMPLES, "--port", "0", "--max_seconds", "0.5"]
    (process,) = start(command, (arguments,), [{}], tmp_path)
    log = tmp_path / "0.txt"
    try:
        while not (log.is_file() and (found := re.search(r"listens on (\S+)", log.read_text()))):
            assert process.is_alive(), log.read_text()
            time.sleep(0.1)
        wish = {"input": "so it is.", "voice": "0-reference", "response_format": "wav", "model": "quickstart"}
        answer = httpx.post(f"{found[1]}/v1/audio/speech", json=wish, timeout=60, trust_env=False)
    finally:
        process.terminate()
        (status,) = end([process])
    assert status == 0, log.read_text()
    (tmp_path / "out.wav").write_bytes(answer.content)
    assert soundfile.info(tmp_path / "out.wav").duration == 0.5
    assert re.search(rf"{answer.headers['x-request-id']} POST /v1/audio/speech 200", log.read_text())
