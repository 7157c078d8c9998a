"""STOI and PESQ against the packages themselves, and the errors without them."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from tests.metrics.sounds import RATE, voice
from wand.metrics import CodecFidelity

SPEECH = voice(torch.linspace(110, 170, 2 * RATE), noise=0.02)


def noisy(size: float) -> Tensor:
    return SPEECH + size * torch.randn(len(SPEECH), generator=torch.Generator().manual_seed(1))


def test_stoi_is_the_mean_of_the_package():
    pystoi = pytest.importorskip("pystoi", reason="pystoi is not installed")
    ranks = CodecFidelity(), CodecFidelity()
    ranks[0].update([SPEECH, noisy(0.1)], [SPEECH, SPEECH], RATE)
    ranks[1].update([torch.cat([noisy(0.3), torch.zeros(100)])], [SPEECH], RATE)
    ranks[0].merge_state(ranks[1])
    found = ranks[0].compute()
    each = [pystoi.stoi(SPEECH.numpy(), noisy(size).numpy(), RATE) for size in (0, 0.1, 0.3)]
    assert each[0] == pytest.approx(1)
    assert each == sorted(each, reverse=True)
    assert found.keys() == {"codec_stoi"}
    assert float(found["codec_stoi"]) == pytest.approx(sum(each) / 3, abs=1e-6)


@pytest.mark.integration
def test_pesq_is_the_mean_of_the_package():
    pesq = pytest.importorskip("pesq", reason="pesq is not installed")
    metric = CodecFidelity(with_pesq=True)
    metric.update([SPEECH, noisy(0.1)], [SPEECH, SPEECH], RATE)
    each = [pesq.pesq(RATE, SPEECH.numpy(), noisy(size).numpy(), "wb") for size in (0, 0.1)]
    assert each[0] == pytest.approx(4.64, abs=0.01)
    assert float(metric.compute()["codec_pesq"]) == pytest.approx(sum(each) / 2, abs=1e-5)
    with pytest.raises(ValueError, match=r"PESQ finds no speech in an original of 1\.00 s"):
        metric.update([torch.zeros(RATE)], [torch.zeros(RATE)], RATE)


@pytest.mark.parametrize("package", ["pystoi", "pesq"])
def test_a_missing_package_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf'CodecFidelity needs {package}: pip install "wand-tts\[fidelity\]"'):
        CodecFidelity(with_pesq=True)
