"""Two processes that share the parameters of a model (FSDP2, gloo) take the step that one process takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from tests.conftest import TINY, random_codes, sharpened
from tests.training.accumulated import on_two_ranks
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.model.batch import ConditionedBatch, make_batch
from wand.training.module import WandModule
from wand.training.teacher import COPY, build_teacher


class Gradients(Callback):
    """Keeps the gradients of the last step, gathered, and whether each was shared."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.of, self.shared = {}, set()
        for name, parameter in pl_module.named_parameters():
            gradient = parameter.grad
            if isinstance(gradient, DTensor):
                self.shared.add(name)
                gradient = gradient.full_tensor()
            if gradient is not None:
                self.of[name] = gradient.clone()


def batch_of(lm: EncodecLM, rows: range) -> ConditionedBatch:
    """Some rows of four; the rows differ in length."""
    torch.manual_seed(1)
    texts = ["a", "hello", "no", "yes"]
    examples = [(lm.conditioner(text, Reference(random_codes(lm, 3))), random_codes(lm, 20)) for text in texts]
    conditionings = [examples[row][0] for row in rows]
    return make_batch(lm.conditioner, lm.layout, conditionings, [examples[row][1][:, : 20 - 4 * row] for row in rows])


def step(rows: range, **settings: Any) -> tuple[WandModule, dict[str, float], Gradients]:
    """One step of a fit on some rows: the module, what was logged, the gradients."""
    torch.manual_seed(0)
    lm = sharpened(EncodecLM(architecture=TINY))
    module = WandModule(lm, window=8, gradient_checkpointing=True)
    module.teacher = build_teacher(COPY, sharpened(EncodecLM(architecture=TINY)))
    kept = Gradients()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        callbacks=[kept],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    trainer.fit(module, DataLoader([batch_of(lm, rows)], batch_size=None))
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}, kept


def work(rank: int, tensor_parallel: int) -> Any:
    """What one of two processes finds: logs, gradients and which of them are shared; or the error."""
    strategy = ModelParallelStrategy(data_parallel_size=2 // tensor_parallel, tensor_parallel_size=tensor_parallel)
    try:
        module, logged, kept = step(range(2 * rank, 2 * rank + 2), devices=2, strategy=strategy)
    except ValueError as error:
        return str(error)
    with module.teacher.weights() as teacher:
        assert isinstance(teacher, FSDPModule)
    return logged, kept.of, kept.shared


@pytest.mark.filterwarnings("ignore")
def test_two_processes_with_shared_parameters_equal_one(tmp_path: Path) -> None:
    _, expected, one = step(range(4))
    for logged, gradients, shared in on_two_ranks(tmp_path, work, 1):
        assert shared == gradients.keys() == one.of.keys()
        for name in ("train/loss", "train/ce", "train/kd", "train/kl", "train/agreement", "train/grad_norm"):
            assert logged[name] == pytest.approx(expected[name], rel=1e-5), name
        for name, gradient in one.of.items():
            torch.testing.assert_close(gradients[name], gradient, atol=1e-5, rtol=1e-4)


def test_tensor_parallelism_is_refused(tmp_path: Path) -> None:
    for message in on_two_ranks(tmp_path, work, 2):
        assert "tensor_parallel_size 2" in message
