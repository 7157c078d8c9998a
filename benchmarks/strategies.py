"""FSDP2 beside DDP on two processes of a CPU (gloo): ``python -m benchmarks.strategies``.

Trains a small model for 50 steps with both strategies, and compares gradients, losses and weights. Then a run with
sharded checkpoints is resumed on as many processes, on one process, and from one process on two. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs.reference import Reference
from wand.lora import LoraSettings
from wand.model.batch import ConditionedBatch, make_batch
from wand.runs.checkpoint_io import WholeCheckpoints
from wand.runs.settings import OptimizerSettings
from wand.training.module import WandModule
from wand.training.sharding import ShardedStrategy
from wand.training.teacher import COPY, SELF, build_teacher

Weights = dict[str, Tensor]
RANKS = 2
EPOCHS = 2  # the runs are resumed between them
SHAPE = EncodecLMArchitecture(
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    intermediate_size=96,
    num_codebooks=4,
    codebook_size=64,
    reference_seconds=0.1,
)


@dataclass(frozen=True)
class Case:
    """A way to train.

    Args:
        rows: Utterances of a micro-batch on one process.
        trainer: Further settings of the trainer.
        module: Further settings of the module.
    """

    rows: int = 2
    trainer: Mapping[str, Any] = field(default_factory=dict)
    module: Mapping[str, Any] = field(default_factory=dict)

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step."""
        return int(self.trainer.get("accumulate_grad_batches", 1))


CHECKPOINTING = {"gradient_checkpointing": True}
LORA = {"lora": LoraSettings(rank=8, alpha=16.0), "teacher": SELF, "optimizer": OptimizerSettings(learning_rate=1e-2)}
CASES = {
    "plain": Case(),
    "gradient checkpointing": Case(module=CHECKPOINTING),
    "accumulation": Case(1, {"accumulate_grad_batches": 2}),
    "clipping": Case(trainer={"gradient_clip_val": 0.1}),
    "all three": Case(1, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, CHECKPOINTING),
    "LoRA": Case(module=LORA),
    "LoRA, all three": Case(1, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, CHECKPOINTING | LORA),
}
RESUMED = Case()


class Record(Callback):
    """Keeps the gradients of the first step, whole, and the loss of every step."""

    def __init__(self) -> None:
        self.gradients: Weights = {}
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keep the gradients before clipping."""
        if not self.gradients:
            assert isinstance(pl_module, WandModule)
            named = pl_module.backbone.named_parameters()
            self.gradients = {name: whole(p.grad) for name, p in named if p.grad is not None}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Keep the loss."""
        self.losses[trainer.global_step - 1 :] = [float(trainer.callback_metrics["train/loss"])]


@dataclass(frozen=True)
class Trained:
    """What a run leaves: its first gradients, its losses, its weights before and after."""

    gradients: Weights
    losses: list[float]
    start: Weights
    end: Weights


def whole(tensor: Tensor) -> Tensor:
    """A copy on the CPU of a tensor that may be distributed."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu().clone()


def weights(module: WandModule) -> Weights:
    """The student's weights, gathered."""
    return {name: whole(tensor) for name, tensor in module.backbone.state_dict().items()}


def utterances(lm: EncodecLM, rows: Sequence[int]) -> ConditionedBatch:
    """Some of eight utterances of different lengths, each of which repeats a few codes."""
    conditionings, codes = [], []
    for row in rows:
        random = torch.Generator().manual_seed(row)
        few = torch.randint(0, SHAPE.codebook_size, (lm.num_codebooks, 3 + row), generator=random)
        codes.append(few.repeat(1, 9)[:, : 20 + 3 * row])
        conditionings.append(lm.conditioner("abcdefgh"[: 1 + row], Reference(few[:, :3])))
    return make_batch(lm.conditioner, lm.layout, conditionings, codes)


def batches(lm: EncodecLM, case: Case, steps: int, ranks: int, rank: int) -> list[ConditionedBatch]:
    """The micro-batches of a rank in an epoch. The ranks together have the same utterances, however many they are."""
    share = case.rows * RANKS // ranks
    numbers = range(steps * case.micro_batches)
    starts = [number * case.rows * RANKS + rank * share for number in numbers]
    return [utterances(lm, [(start + row) * 5 % 8 for row in range(share)]) for start in starts]


def student(case: Case) -> WandModule:
    """A student with its teacher, the same in all processes: another random model, or itself without its adapters."""
    torch.manual_seed(0)
    settings = {"window": 8, "optimizer": OptimizerSettings(learning_rate=3e-3), **case.module}
    if "lora" not in settings:
        module = WandModule(EncodecLM(architecture=SHAPE), **settings)
        module.teacher = build_teacher(COPY, EncodecLM(architecture=SHAPE))
        return module
    with tempfile.TemporaryDirectory() as folder:
        original = EncodecLM(architecture=SHAPE)
        with torch.no_grad():
            original.head.mul_(10)  # the head is frozen: a larger one can say more
        original.save_pretrained(Path(folder))
        module = WandModule(EncodecLM(pretrained=folder), **settings)
        module.setup("fit")
    return module


def train(
    case: Case, strategy: Any, steps: int, ranks: int, rank: int, resume: Path | None = None, save: Path | None = None
) -> Trained:
    """Train for `EPOCHS` epochs.

    Args:
        case: How to train.
        strategy: The strategy.
        steps: Steps of an epoch.
        ranks: Number of processes.
        rank: The rank of this one.
        resume: Checkpoint to go on from, written at the end of the first epoch.
        save: Checkpoint to write at the end of the first epoch.
    """
    module = student(case)
    start, record = weights(module), Record()
    callbacks: list[Callback] = [record] if save is None else [record, SaveAfterFirstEpoch(save)]
    trainer = Trainer(
        devices=ranks,
        strategy=strategy,
        max_epochs=EPOCHS,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"accelerator": "cpu", **case.trainer},
    )
    lm = module.backbone
    assert isinstance(lm, EncodecLM)
    loader: DataLoader[Any] = DataLoader(batches(lm, case, steps, ranks, rank), batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    return Trained(record.gradients, record.losses, start, weights(module))


class SaveAfterFirstEpoch(Callback):
    """Writes a checkpoint at the end of the first epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it."""
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def norm(tensors: Weights) -> float:
    """Norm of several tensors together."""
    return float(torch.nn.utils.get_total_norm([t for t in tensors.values() if t.is_floating_point()]))


def distance(one: Weights, other: Weights) -> float:
    """Norm of the difference."""
    assert one.keys() == other.keys()
    return norm({name: tensor.double() - other[name].double() for name, tensor in one.items()})


def weights_apart(one: Trained, other: Trained) -> float:
    """The distance of the weights in the end, divided by the way that the other run has gone."""
    return distance(one.end, other.end) / distance(other.end, other.start)


def compare(rank: int, case: Case, steps: int, ranks: int = RANKS) -> dict[str, float]:
    """FSDP2 beside DDP, in each of some processes. All differences are relative."""
    ddp = train(case, "ddp", steps, ranks, rank)
    sharded = train(case, ShardedStrategy(), steps, ranks, rank)
    return {
        "first gradients": distance(sharded.gradients, ddp.gradients) / norm(ddp.gradients),
        "loss, largest": max(abs(a / b - 1) for a, b in zip(sharded.losses, ddp.losses, strict=True)),
        "weights": weights_apart(sharded, ddp),
        "the loss falls by": 1 - ddp.losses[-1] / ddp.losses[0],
    }


def resumed(rank: int, steps: int, folder: Path) -> dict[str, float]:
    """Resumed runs beside the undisturbed one, in each of two processes. The folder has ``one.ckpt`` of one process."""
    found = {}
    for distributed in (True, False):
        path = folder / ("sharded.ckpt" if distributed else "whole.ckpt")
        undisturbed = train(RESUMED, ShardedStrategy(distributed), steps, RANKS, rank, save=path)
        for name, strategy in (("FSDP2", ShardedStrategy(distributed)), ("DDP", "ddp")):
            again = train(RESUMED, strategy, steps, RANKS, rank, resume=path)
            found[f"{path.stem}, FSDP2 on 2 to {name} on 2"] = weights_apart(again, undisturbed)
    again = train(RESUMED, ShardedStrategy(), steps, RANKS, rank, resume=folder / "one.ckpt")
    found["whole, 1 process to FSDP2 on 2"] = weights_apart(again, undisturbed)
    if rank == 0:
        torch.save(vars(undisturbed), folder / "undisturbed.pt")
    return found


def resumed_on_one(steps: int, folder: Path) -> dict[str, float]:
    """Runs that one process resumes from the checkpoints of `resumed`."""
    undisturbed = Trained(**torch.load(folder / "undisturbed.pt"))
    return {
        f"{kind}, FSDP2 on 2 to 1 process": weights_apart(
            train(RESUMED, "auto", steps, 1, 0, resume=folder / f"{kind}.ckpt"), undisturbed
        )
        for kind in ("sharded", "whole")
    }


def on_ranks(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What ``work(rank, *arguments)`` returns in two processes; the larger value of each entry."""
    config = LaunchConfig(1, 1, RANKS, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", run_id="strategies")
    results = list(elastic_launch(config, with_rank)(work, *arguments).values())
    return {name: max(result[name] for result in results) for name in results[0]}


def with_rank(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Call a function with the rank of this process."""
    torch.set_num_threads(1)
    return work(int(os.environ["RANK"]), *arguments)


def everything(rank: int, names: Sequence[str], steps: int, folder: Path) -> dict[str, float]:
    """Print the comparisons of some cases, in each of two processes, and return `resumed`."""
    for number, name in enumerate(names):
        values = compare(rank, CASES[name], steps)
        if rank == 0:
            if number == 0:
                print(f"\n| | {' | '.join(values)} |\n| --- |{' --- |' * len(values)}")
            print(f"| {name} | {' | '.join(f'{value:.2g}' for value in values.values())} |", flush=True)
    return resumed(rank, steps, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50, help="steps of a run (default: %(default)s)")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES, help="cases to run (default: all)")
    options = parser.parse_args(arguments)
    steps = options.steps // EPOCHS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(RESUMED, "auto", steps, 1, 0, save=folder / "one.ckpt")
        again = on_ranks(everything, options.cases, steps, folder) | resumed_on_one(steps, folder)
    print("\n| resumed | weights |\n| --- | --- |")
    for name, value in again.items():
        print(f"| {name} | {value:.2g} |")


if __name__ == "__main__":
    main()
