"""The benchmarks of training run at tiny size."""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks import attention, processor, training_step


def lines(text: str) -> list[list[str]]:
    """Cells of all rows of all tables, titles included."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if "---" not in row]


def test_attention(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(attention, "HEADS", (attention.Heads(4, 2, 8), attention.Heads(2, 2, 8)))
    attention.main(["--prefix=6", "--window=3", "--lengths", "40", "70", "--short", "12", "30", "--repeats=1"])
    text = capsys.readouterr().out
    assert f"torch {torch.__version__}" in text
    titles, *rows = lines(text)
    assert titles[:4] == ["heads", "dtype", "S", "dense ms"]
    lengths, choices = rows[:8], rows[8:]
    assert [row[:3] for row in lengths[:3]] == [
        ["4/2 x 8", "float32", "40"],
        ["4/2 x 8", "float32", "70"],
        ["4/2 x 8", "bfloat16", "40"],
    ]
    assert choices[0] == ["dense / auto", "dtype", "S = 12", "S = 30"]
    assert [row[:2] for row in choices[1:]] == [
        [heads, dtype] for heads in ("4/2 x 8", "2/2 x 8") for dtype in ("float32", "bfloat16")
    ]
    assert all(re.fullmatch(r"\**\d+\.\d\dx\**", row[-1]) for row in (*lengths, *choices[1:]))


@pytest.mark.parametrize("body", training_step.BODIES)
def test_training_step(body: str, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--layers=1", "--width=32", "--heads", "4", "2", "--lengths", "30", "--prefix=6", "--window=3"]
    training_step.main([f"--body={body}", *size, "--vocabulary=11", "--repeats=1"])
    text = capsys.readouterr().out
    assert f"{body}, 1 layers x 32, 4/2 heads, B = 1, P = 6, W = 3, vocabulary 11" in text
    assert [row[:2] for row in lines(text)] == [["dtype", "S"], ["float32", "30"], ["bfloat16", "30"]]


def test_calls_take_turns() -> None:
    order: list[str] = []
    took = processor.processor_seconds({name: lambda name=name: order.append(name) for name in "ab"}, 2, warmup=1)
    assert order == list("ab") * 3
    assert set(took) == {"a", "b"}
