"""The page of a GPU, made on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmarks.gpu: device 'cuda' cannot be used")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_page_has_all_sections_and_says_that_it_is_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "HEADS", gpu.HEADS[:1])
    text = gpu.page(CPU, "2026-01-01", "3 passed.")
    assert text.startswith("# GPU, 2026-01-01\n")
    assert "This page was made on a CPU" in text
    sections = text.split("\n## ")[1:]
    titles = [section.splitlines()[0] for section in sections]
    assert titles == ["Tests", "Decoding steps", "Decoding by length", "Attention in training", "Training steps"]
    assert sections[0] == "Tests\n\n3 passed.\n"
    assert all("| --- |" in section for section in sections[1:])
    assert sections[2].count("window 16, lean") == sections[2].count("full, lean") == 1
    assert sections[4].count("| float32 |") == sections[4].count("| bf16-mixed |") == 2
