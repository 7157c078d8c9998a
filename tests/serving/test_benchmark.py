"""The benchmark of the server at tiny size."""

from __future__ import annotations

import argparse
import asyncio
import os

import pytest

from benchmarks import serving
from tests.serving.conftest import Running


def test_the_benchmark_runs(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"clients": 2, "leaving": 6, "fuzzed": 40}
    asyncio.run(serving.run(argparse.Namespace(url=server.url, pid=os.getpid(), **sizes)))
    report = capsys.readouterr().out
    assert "2 requests at the same time: 1.2 s of sound" in report
    assert "6 requests: " in report
    assert "40 fuzzed bodies: answers {" in report
    assert server.becomes_idle()
