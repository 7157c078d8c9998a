"""Numbers that are not finite: found in tensors of every kind, refused as settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from wand.attention import AttentionWindow
from wand.cli.benchmark import parse
from wand.data.datamodule import SpeechDataModule
from wand.data.sources.corpora import LibriTTS
from wand.demo.corpus import EspeakCorpus
from wand.distillation.terms import LossTerms
from wand.finite import all_finite, check_weights, find_non_finite, tensors_in
from wand.model.sampling import RepetitionAware
from wand.runs.settings import OptimizerSettings
from wand.speech.speaking import SpeakOptions
from wand.training.curriculum import WindowSchedule

NAN, INF = float("nan"), float("inf")
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_bad_value_is_found_anywhere(dtype: torch.dtype) -> None:
    good = torch.linspace(-400, 400, 60).view(3, 4, 5).to(dtype)
    assert all_finite(good)
    for value in (NAN,) if dtype == torch.float8_e4m3fn else (NAN, INF, -INF):  # float8_e4m3fn has no infinity
        for place in (0, 31, 59):
            bad = good.float().clone()
            bad.view(-1)[place] = value
            assert not all_finite(bad.to(dtype))


def test_the_first_bad_tensor_is_named() -> None:
    values = {"a": torch.ones(2), "b": [torch.arange(3), {"c": torch.tensor(INF)}], "d": torch.tensor([NAN]), "e": "x"}
    assert find_non_finite(tensors_in(values)) == "b.1.c"
    assert (
        find_non_finite(tensors_in({"empty": torch.zeros(0), "flag": torch.tensor(True), "n": torch.tensor(3)})) is None
    )
    with pytest.raises(ValueError, match=r"folder/model .*not finite.*'d'"):
        check_weights({"a": values["a"], "d": values["d"]}, "folder/model")
    largest = torch.finfo(torch.float32).max
    check_weights({"large": torch.full((9,), largest), "small": torch.full((9,), -largest)}, "model")


SETTINGS: list[tuple[str, Callable[[float], Any]]] = [
    *(
        (name, lambda x, name=name: LossTerms(**{name: x}))
        for name in ("ce_weight", "kd_weight", "skew", "temperature")
    ),
    ("codebook_weights", lambda x: LossTerms(codebook_weights=[1.0, x])),
    *(
        (name, lambda x, name=name: OptimizerSettings(**{name: x}))
        for name in ("learning_rate", "weight_decay", "warmup")
    ),
    ("tau_start", lambda x: WindowSchedule(tau_start=x, tau_end=INF)),
    ("final_share", lambda x: WindowSchedule(final_share=x)),
    *(
        (name, lambda x, name=name: SpeakOptions(**{name: x}))
        for name in ("max_seconds", "first_seconds", "chunk_seconds")
    ),
    ("share", lambda x: RepetitionAware(share=x)),
    ("held_out_share", lambda x: LibriTTS("nowhere", held_out_share=x)),
    ("hours", lambda x: EspeakCorpus(hours=x)),
    ("--seconds", lambda x: parse(["--paper", f"--seconds={x}"])),
]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(("name", "make"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_a_setting_is_a_finite_number(name: str, make: Callable[[float], Any], value: float) -> None:
    with pytest.raises(ValueError, match=name) as error:
        make(value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("tau", lambda: AttentionWindow(4, NAN)),
        ("window", lambda: AttentionWindow(NAN)),  # type: ignore[arg-type]
        ("tau_end", lambda: WindowSchedule(tau_end=NAN)),
        ("hard_from", lambda: WindowSchedule(hard_from=NAN)),
        ("max_seconds", lambda: SpeechDataModule(EspeakCorpus(0.02), max_seconds=NAN)),
    ],
)
def test_nan_is_refused_where_infinity_means_no_limit(name: str, make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=name):
        make()


def test_no_limit_stays() -> None:
    assert WindowSchedule(tau_end=INF, hard_from=INF).at(1, 10, AttentionWindow(8)).largest is not None
    assert SpeechDataModule(EspeakCorpus(0.02), max_seconds=INF).max_seconds == INF


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_a_setting_that_float32_cannot_compute_with_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} 1e\\+38 is outside"):
        OptimizerSettings(**{name: 1e38})
