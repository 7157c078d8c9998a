"""The three ways to take a step are timed from full caches, on a tiny shape."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks import stock_cache
from tests.benchmark.tiny_shapes import tiny_shape
from wand.benchmark.shapes import SHAPES


def test_a_tiny_shape(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(SHAPES, "cosyvoice2", tiny_shape("cosyvoice2"))
    monkeypatch.setattr(sys, "argv", ["stock_cache", "--columns", "9", "--repeats", "2", "--dtype", "float32"])
    stock_cache.main()
    row = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert row[0] == "9"
    assert all(float(ms) > 0 for ms in row[1:4])
    assert torch.is_inference_mode_enabled() is False
