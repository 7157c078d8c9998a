"""A student with adapters is its own teacher: with the adapters off it is the original model, for ever."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.conftest import TINY, sharpened
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.metrics.tokens import TokenMetrics
from wand.model.batch import ConditionedBatch
from wand.training.module import WandModule
from wand.training.teacher import SELF, SelfTeacher, build_teacher


class Adapted(EncodecLM):
    """A low-rank adapter with dropout between decoder and head; everything else is frozen."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.requires_grad_(False)
        self.down, self.up = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)
        self.dropout = nn.Dropout(0.5)
        self.active = True

    def project(self, hidden: Tensor) -> Tensor:
        return hidden + self.up(self.dropout(self.down(hidden))) if self.active else hidden

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        before, self.active = self.active, False
        try:
            yield
        finally:
            self.active = before


@pytest.fixture
def adapted() -> Adapted:
    torch.manual_seed(0)
    return sharpened(Adapted(architecture=TINY))


def trainer(steps: int) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", max_steps=steps, enable_model_summary=False, **quiet)


def test_a_model_without_adapters_cannot_be_its_own_teacher(tiny_lm: EncodecLM) -> None:
    with pytest.raises(ValueError, match="EncodecLM has no adapters"):
        build_teacher(SELF, tiny_lm)


def test_it_is_the_student_in_eval_mode_with_its_adapters_off(adapted: Adapted, random_batch: Any) -> None:
    batch = random_batch(adapted)
    adapted.train()
    adapted.decoder.eval()
    teacher = build_teacher(SELF, adapted)
    assert teacher.shares_weights
    with teacher.weights() as inside:
        assert inside is adapted
        assert not adapted.active
        assert not any(module.training for module in adapted.modules())
    assert adapted.active
    assert adapted.dropout.training
    assert not adapted.decoder.training
    predicted = teacher.head_input(batch)
    assert predicted is not None
    assert not predicted.hidden.requires_grad
    adapted.active = False
    assert torch.equal(predicted.logits(), adapted.eval()(batch, AttentionWindow()))


def test_an_error_inside_switches_the_adapters_on_again(adapted: Adapted) -> None:
    teacher = SelfTeacher(adapted.train())
    with pytest.raises(KeyError), teacher.weights():
        raise KeyError
    assert adapted.active
    assert adapted.dropout.training


@pytest.mark.filterwarnings("ignore")
def test_a_fit_changes_the_student_and_not_the_teacher(adapted: Adapted, random_batch: Any) -> None:
    original = copy.deepcopy(adapted).eval()
    original.active = False
    batches = [random_batch(adapted), random_batch(adapted, ("ab", "ba"), 9)]
    module = WandModule(adapted, window=8, teacher=SELF)
    run = trainer(4)
    run.fit(module, DataLoader(batches, batch_size=None))
    assert not [name for name in module.state_dict() if "teacher" in name]
    predicted = module.teacher.head_input(batches[0])
    assert predicted is not None
    assert torch.equal(predicted.logits(), original(batches[0], AttentionWindow()))
    adapted.eval()
    assert not torch.equal(adapted(batches[0], AttentionWindow()), original(batches[0], AttentionWindow()))
    # The table's rows: the original weights under both windows, and the student.
    run.test(module, DataLoader(batches, batch_size=None), verbose=False)
    full, window = AttentionWindow(), AttentionWindow(8)
    for name, model, seen in (
        ("teacher", original, full),
        ("untrained", original, window),
        ("student", adapted, window),
    ):
        assert float(run.callback_metrics[f"test/{name}/kl"]) == pytest.approx(mean_kl(model, seen, original, batches))
    assert run.callback_metrics["test/untrained/kl"] != run.callback_metrics["test/student/kl"]


def mean_kl(model: EncodecLM, window: AttentionWindow, original: EncodecLM, batches: list[ConditionedBatch]) -> float:
    metric = TokenMetrics(with_teacher=True)
    with torch.no_grad():
        for batch in batches:
            metric.update(model(batch, window), batch.labels, original(batch, AttentionWindow()))
    return float(metric.compute()["kl"])
