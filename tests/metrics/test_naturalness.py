"""DNSMOS against torchmetrics' own implementation where the packages are installed, its errors everywhere."""

from __future__ import annotations

import math
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torchmetrics.functional.audio import dnsmos as other

from wand.demo.corpus import VOICES
from wand.metrics import Naturalness
from wand.metrics.naturalness import PACKAGES, dnsmos
from wand.text.espeak import SAMPLE_RATE, synthesize

TEXT = "The bus was late again this morning, and nobody at the stop knew the reason."
installed = pytest.mark.skipif(
    not all(find_spec(name) for name in PACKAGES), reason="speechmos is not installed (wand-tts[naturalness])"
)


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    return synthesize(TEXT, VOICES[0])


@pytest.mark.integration
@installed
def test_torchmetrics_predicts_the_same(speech: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = find_spec("speechmos")
    assert package is not None
    assert package.origin is not None
    shutil.copytree(Path(package.origin).parent / "dnsmos_models", tmp_path / "DNSMOS")
    monkeypatch.setattr(other, "DNSMOS_DIR", str(tmp_path))
    general, signal, background, overall = other.deep_noise_suppression_mean_opinion_score(
        speech, SAMPLE_RATE, personalized=False
    ).tolist()
    assert dnsmos(speech, SAMPLE_RATE) == pytest.approx((overall, signal, background, general), abs=0.02)


@pytest.mark.integration
@installed
def test_noise_is_heard_and_two_processes_are_one(speech: torch.Tensor) -> None:
    noisy = speech + 0.05 * torch.randn(len(speech), generator=torch.Generator().manual_seed(0))
    each = [dnsmos(sound, SAMPLE_RATE) for sound in (speech, noisy)]
    assert each[1].background < each[0].background - 0.5
    assert each[1].overall < each[0].overall
    ranks = Naturalness(), Naturalness()
    ranks[0].update([speech, torch.zeros(0)], SAMPLE_RATE)
    ranks[1].update([noisy], SAMPLE_RATE)
    ranks[0].merge_state(ranks[1])
    for name, value in ranks[0].compute().items():
        assert float(value) == pytest.approx(sum(getattr(one, name) for one in each) / 2)


@pytest.mark.integration
@installed
def test_any_sound_can_be_rated(speech: torch.Tensor) -> None:
    assert all(1 <= value <= 5 for value in dnsmos(3 * speech, SAMPLE_RATE)[:3])
    assert not math.isnan(dnsmos(torch.zeros(100), SAMPLE_RATE).overall)
    assert all(math.isnan(value) for value in dnsmos(torch.zeros(0), SAMPLE_RATE))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speechmos", None)
    for use in (Naturalness, lambda: dnsmos(torch.zeros(100), SAMPLE_RATE)):
        with pytest.raises(ValueError, match=r'DNSMOS needs speechmos.*: pip install "wand-tts\[naturalness\]"'):
            use()
