"""The memory that the tensors of a training step really hold, on fake tensors: the model may be of any size.

`Held` sees every tensor that is made (a dispatch mode, as torch's own ``MemTracker``) and the storages that FSDP2
resizes. `held_by_a_step` takes a step as Lightning does, in one of several processes that are not there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.distillation.chunked import chunk_rows
from wand.distillation.terms import LossTerms
from wand.lora import LoraSettings, inject
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.training.memory_parts import Step
from wand.training.teacher import COPY, SELF, build_teacher

Precision = Literal["32-true", "bf16-mixed", "bf16-true"]


@dataclass(frozen=True)
class Training:
    """A way to train.

    Args:
        precision: As Lightning names it.
        lora: Adapters, with the student as its own teacher; None trains all weights beside a copy of the model.
        checkpointing: Whether layers store only their inputs.
        strategy: ``ddp``, ``fsdp``, or None for one process.
        ranks: Number of processes.
    """

    precision: Precision = "bf16-mixed"
    lora: LoraSettings | None = None
    checkpointing: bool = False
    strategy: Literal["ddp", "fsdp"] | None = None
    ranks: int = 1

    def step(self, rows: int, prefix: int, speech: int, device: str) -> Step:
        """What the estimate needs to know of a step with a batch of this size."""
        return Step(
            rows,
            prefix + speech,
            speech + 1,
            mixed=self.precision == "bf16-mixed",
            teacher="own" if self.lora is None else "shared",
            checkpointing=self.checkpointing,
            device=device,
            buckets=self.strategy == "ddp",
            shards=self.ranks if self.strategy == "fsdp" else None,
        )

    def prepared(self, make: Callable[[], Backbone]) -> Backbone:
        """The student on the meta device."""
        with torch.device("meta"):
            student = make().train()
        if self.precision == "bf16-true":
            student.to(torch.bfloat16)
        if self.lora is not None:
            inject(student, student.decoder, self.lora)
        if self.checkpointing:
            student.decoder.activation_checkpointing_enable({"use_reentrant": False})
        return student


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that are alive.

    Fake tensors have no values: every row has a label, and every number that is read is 1.

    Attributes:
        now: Bytes that are held now.
        peak: The most bytes that were held at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def hold(self, tensor: Tensor) -> None:
        """Count the storage of a tensor, if it is new."""
        storage = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._references[key] = weakref.ref(storage, lambda _: self._forget(key))
            self._sizes[key] = 0
        self._resized(storage)

    def _resized(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            self.now += storage.nbytes() - self._sizes[key]
            self._sizes[key] = storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)
        self._references.pop(key, None)

    def __enter__(self) -> Self:
        self._resize: Any = torch.UntypedStorage.resize_  # FSDP2 frees whole parameters with it

        def resize(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
            self._resize(storage, size)
            self._resized(storage)
            return storage

        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign, assignment]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        fake = args and isinstance(args[0], torch._subclasses.FakeTensor)
        if fake and func is torch.ops.aten._local_scalar_dense.default:
            return 1
        if fake and func is torch.ops.aten.nonzero.default:
            made = args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.long)
        else:
            made = func(*args, **kwargs or {})
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.hold(tensor)
        return made


def batch_of(lm: Backbone, rows: int, prefix: int, speech: int) -> ConditionedBatch:
    """A batch without padding."""

    def numbers(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.long)

    conditioning = {"ids": numbers(rows, prefix)}
    if isinstance(lm, EncodecLM):
        conditioning = {"ids": numbers(rows, prefix, lm.num_codebooks), "is_text": numbers(rows, prefix).bool()}
    columns, labels = numbers(rows, speech, lm.num_codebooks), numbers(rows, speech + 1, lm.num_codebooks)
    return ConditionedBatch(
        conditioning, prefix, numbers(rows) + prefix, columns, numbers(rows) + speech, labels, padded=False
    )


def held_by_a_step(
    make: Callable[[], Backbone],
    training: Training,
    rows: int,
    prefix: int,
    speech: int,
    device: str = "cpu",
    window: AttentionWindow | None = None,
) -> int:
    """The most bytes that tensors hold in a step of the optimizer that is not the first.

    Args:
        make: Makes the student.
        training: How to train.
        rows: B.
        prefix: P.
        speech: T.
        device: ``cpu``, or ``cuda`` for the chunks of the loss and the optimizer of a GPU. FlexAttention does not run
            on fake tensors: attention without a window takes its place, which keeps the same tensors.
        window: The student's window; full attention by default.
    """
    assert window is None or device == "cpu"
    student, mesh = training.prepared(make), None
    if training.strategy is not None:
        dist.init_process_group("fake", rank=0, world_size=training.ranks, store=FakeStore())
        mesh = init_device_mesh("cpu", (training.ranks,))
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            student.to_empty(device="cpu")
            teacher = build_teacher(COPY if training.lora is None else SELF, student)
            if training.strategy == "fsdp":
                assert mesh is not None
                dtype = torch.bfloat16 if training.precision == "bf16-mixed" else None
                teacher.parallelize(mesh, dtype)
                student.parallelize(mesh, dtype)
            batch, held = batch_of(student, rows, prefix, speech), Held()
            given = [student] if teacher.shares_weights else [student, teacher]
            for module in given:
                for tensor in (*module.parameters(), *module.buffers()):  # type: ignore[attr-defined]
                    held.hold(tensor)
            chunk = chunk_rows(student.num_codebooks * student.speech_vocab_size, device)

            class Losses(nn.Module):
                """`WandModule.training_step` without logs."""

                def __init__(self) -> None:
                    super().__init__()
                    self.student = student

                def forward(self) -> Tensor:
                    with torch.autocast("cpu", torch.bfloat16, enabled=training.precision == "bf16-mixed"):
                        expected = teacher.head_input(batch)
                        hidden, head = student.head_input(batch, window or AttentionWindow())
                        weights = torch.ones(batch.labels.shape)
                        return head.loss(hidden, batch.labels, weights, LossTerms(), expected, chunk).loss  # type: ignore[call-arg]

            with held:
                losses: nn.Module = Losses()
                if training.strategy == "ddp":
                    # Neither comparing parameters between processes nor new buckets after a step works without values.
                    parallel = DistributedDataParallel(losses, init_sync=False, find_unused_parameters=True)
                    parallel.register_comm_hook(None, lambda _, bucket: _ready(bucket.buffer()))
                    losses = parallel
                _take_step(losses, student, foreach=device == "cuda" and training.strategy != "fsdp")
            return held.peak
    finally:
        if training.strategy is not None:
            dist.destroy_process_group()


def _ready(reduced: Tensor) -> torch.futures.Future[Tensor]:
    """The result of a reduction that has ended."""
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(reduced)
    return future


def _take_step(losses: nn.Module, student: Backbone, foreach: bool) -> None:
    """Take a step as Lightning does. Moments, and gradients of the step before, are there already."""
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    groups = [[p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]]
    optimizer = torch.optim.AdamW([{"params": group} for group in groups if group], foreach=foreach)
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    loss = losses()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    optimizer.step()
