"""The benchmark of the server at tiny size."""

from __future__ import annotations

import argparse
import asyncio
import os

import pytest

from benchmarks import serving
from tests.serving.conftest import Running
from wand.serving.formats import Pcm
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer


def test_the_benchmark_runs(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"clients": 2, "leaving": 6, "fuzzed": 40, "ckpt_path": None, "voices": None}
    asyncio.run(serving.run(argparse.Namespace(url=server.url, pid=os.getpid(), **sizes)))
    report = capsys.readouterr().out
    assert "2 requests at the same time: 1.2 s of sound" in report
    assert "6 requests: " in report
    assert "no row is lost" in report
    assert "40 fuzzed bodies: answers {" in report
    assert server.becomes_idle()


def test_clients_are_compared_with_generate(
    server: Running, model: Synthesizer, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = server.speaker.voices["anna"]
    (speech,) = model.generate(serving.TEXT, reference, SpeakOptions(seed=0))
    assert speech.audio is not None
    own, other = (serving.Spoken(200, content=Pcm().add(sound)) for sound in (speech.audio, speech.audio.flip(0)))
    assert serving.compare([own, own, other], model, reference) == 1  # the others have the seeds 1 and 2
    assert "1 of 3 clients" in capsys.readouterr().out
