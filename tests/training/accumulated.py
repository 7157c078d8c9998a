"""One optimiser step of a fit on some micro-batches, alone or as one of two processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from tests.conftest import TINY, random_codes, sharpened
from tests.processes import as_torchrun, end, start
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.model.batch import ConditionedBatch, make_batch
from wand.training.module import WandModule
from wand.training.teacher import COPY, build_teacher

LENGTHS = (20, 200, 30, 25)
Groups = Sequence[Sequence[int]]


class Record(Callback):
    """Keeps gradients as the optimizer gets them (after clipping), and what was logged, by step."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.logged: list[dict[str, float]] = []

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self._keep(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(pl_module)

    def _keep(self, module: LightningModule) -> None:
        found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        if found:
            whole = {n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in found.items()}
            self.gradients.append({name: gradient.clone() for name, gradient in whole.items()})

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        step = trainer.global_step
        self.logged[step - 1 :] = [{name: float(value) for name, value in trainer.callback_metrics.items()}]


def utterances(lm: EncodecLM, rows: Sequence[int]) -> ConditionedBatch:
    """Some of four utterances, whose speech has the lengths `LENGTHS`."""
    torch.manual_seed(1)
    texts = ["a", "hello", "no", "yes"]
    made = [
        (lm.conditioner(text, Reference(random_codes(lm, 3))), random_codes(lm, length))
        for text, length in zip(texts, LENGTHS, strict=True)
    ]
    chosen = [made[row] for row in rows]
    ids = [f"u{row}" for row in rows]
    return make_batch(lm.conditioner, lm.layout, [one for one, _ in chosen], [codes for _, codes in chosen], ids=ids)


def module_of(**settings: Any) -> WandModule:
    """A tiny student; its teacher has other weights, so that both terms of the loss have gradients."""
    torch.manual_seed(0)
    module = WandModule(sharpened(EncodecLM(architecture=TINY)), window=8, **settings)
    module.teacher = build_teacher(COPY, sharpened(EncodecLM(architecture=TINY)))
    return module


def fit(groups: Groups, module: WandModule | None = None, **trainer: Any) -> Record:
    """Train on the micro-batches, one epoch."""
    module = module_of() if module is None else module
    record = Record()
    options = {"accelerator": "cpu", "max_epochs": 1, "callbacks": [record], "logger": False} | trainer
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    batches = [utterances(module.backbone, rows) for rows in groups]  # type: ignore[arg-type]
    Trainer(**options, **quiet, use_distributed_sampler=False).fit(module, DataLoader(batches, batch_size=None))
    return record


def _save(rank: int, folder: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.save(work(rank, *arguments), folder / f"{rank}.pt")


def on_two_ranks(folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work(rank, *arguments)`` returns in two processes, as torchrun would start them."""
    statuses = end(start(_save, (folder, work, arguments), as_torchrun(), folder))
    assert statuses == [0, 0], [(folder / f"{rank}.txt").read_text() for rank in range(2)]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def strategy_of(name: str) -> Any:
    """``ddp``, or FSDP2 over both ranks."""
    return name if name == "ddp" else ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)


def bad_for_u2(teacher: torch.Tensor, student: torch.Tensor, terms: Any) -> torch.Tensor:
    """The KL divergence, but NaN if the batch is utterance u2 alone, which has labels in 30 + 2 columns."""
    divergence = (teacher.exp() * (teacher - student)).sum(-1)
    return divergence * float("nan") if len(student) == LENGTHS[2] + 2 else divergence
