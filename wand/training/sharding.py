"""FSDP2 as a strategy of Lightning: parameters, gradients and optimizer states are sharded over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.distributed.constants import default_pg_timeout
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from wand.files.writing import partial_of, put_in_place
from wand.finite import find_non_finite, non_finite_error
from wand.runs.finite_checkpoints import warn_of_non_finite
from wand.runs.sharded import (
    SHARDED,
    is_sharded,
    load_parts,
    read_meta,
    stored_shapes,
    tensors_of,
    write_parts,
)
from wand.training.module import WandModule

Shapes = Mapping[str, torch.Size]


class ShardedStrategy(ModelParallelStrategy):
    """Shards parameters, gradients and optimizer states over all processes (PyTorch's FSDP2).

    ``--config strategy/fsdp`` selects it. Every process trains on its own utterances, as with ``ddp``. Checkpoints of
    either kind can be resumed with any strategy and any number of processes.

    Args:
        save_distributed_checkpoint: Whether a checkpoint is a folder to which every process writes its own part. By
            default it is one file, which the first process gathers in its memory and writes.
        process_group_backend: Backend of the process group; by default ``nccl`` on GPUs and ``gloo`` on CPUs.
        timeout: Time limit of a collective operation.
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = False,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        super().__init__("auto", 1, save_distributed_checkpoint, process_group_backend, timeout)

    def setup_environment(self) -> None:
        """Spread the batch over all processes. Lightning's own default is one part for each node."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The weights: for a sharded checkpoint as they are, else whole on rank 0 and none elsewhere."""
        assert self.model is not None
        return self._for_checkpoint(self.model.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of an optimizer, in the same way."""
        return self._for_checkpoint(optimizer.state_dict())

    def _for_checkpoint(self, state: dict[str, Any]) -> dict[str, Any]:
        if self._save_distributed_checkpoint:
            return state
        whole: dict[str, Any] = _gather(state, self.is_global_zero)
        return whole if self.is_global_zero else {}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write a checkpoint as a whole, if its weights and the state of its optimizer are finite."""
        path = Path(self.broadcast(filepath))
        if not self._save_distributed_checkpoint:
            if self.is_global_zero:
                self.checkpoint_io.save_checkpoint(checkpoint, path, storage_options)
            return
        if (name := _first_non_finite(tensors_of(checkpoint).items())) is not None:
            warn_of_non_finite(path, name)
            return
        made = Path(self.broadcast(partial_of(path)))
        write_parts(checkpoint, made, first=self.is_global_zero)
        if self.is_global_zero:
            put_in_place(made, path)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Fill the model, and the optimizer of a fit, from a checkpoint of either kind.

        Returns:
            The checkpoint without the weights and the states of the optimizer.

        Raises:
            ValueError: If the checkpoint does not fit the model, or is not finite.
        """
        path = Path(self.broadcast(checkpoint_path))
        assert isinstance(self.lightning_module, WandModule)
        if is_sharded(path):
            checkpoint, shapes = read_meta(path), stored_shapes(path)
            fill: Callable[[dict[str, Tensor]], None] = partial(load_parts, folder=path)
        else:
            checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            stored = tensors_of(checkpoint)
            shapes = {name: tensor.shape for name, tensor in stored.items()}
            fill = partial(_fill, stored)
        self.lightning_module.check_fit(checkpoint["hyper_parameters"], _below("state_dict", shapes))
        fitting = self.lightning_module.trainer.state.fn == TrainerFn.FITTING
        optimizers = self.optimizers if fitting else []
        saved = checkpoint["optimizer_states"][: len(optimizers)]
        states = [
            _empty_state(optimizer, _below(f"optimizer_states.{i}.state", shapes))
            for i, optimizer in enumerate(optimizers)
        ]
        own = tensors_of(
            {
                "state_dict": self.lightning_module.state_dict(),
                "optimizer_states": [{"state": state} for state in states],
            }
        )
        fill(own)
        if (name := _first_non_finite(own.items())) is not None:
            raise non_finite_error("the checkpoint", name)
        for optimizer, state, rest in zip(optimizers, states, saved, strict=True):
            optimizer.load_state_dict({**rest, "state": state})
        return {name: value for name, value in checkpoint.items() if name not in SHARDED}


def _gather(value: Any, keep: bool) -> Any:
    """Nested values with whole tensors on the CPU in place of distributed ones; None for tensors that are not kept."""
    if isinstance(value, Tensor):
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        return whole.detach().cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: _gather(part, keep) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_gather(part, keep) for part in value)
    return value


def _below(path: str, shapes: Shapes) -> Shapes:
    """The shapes of the tensors below a path, by the rest of their path."""
    return {name.removeprefix(f"{path}."): shape for name, shape in shapes.items() if name.startswith(f"{path}.")}


def _empty_state(optimizer: Optimizer, shapes: Shapes) -> dict[int, dict[str, Tensor]]:
    """Tensors to be filled with the state of an optimizer; those with the shape of their parameter are sharded like it.

    Raises:
        ValueError: If the state is that of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, shape in shapes.items():
        number, _, key = name.partition(".")
        if int(number) >= len(parameters):
            raise ValueError(f"the checkpoint's optimizer trains other parameters: it has a number {number}")
        like = parameters[int(number)].detach()
        empty = torch.zeros_like(like) if shape == like.shape else torch.zeros(shape)
        state.setdefault(int(number), {})[key] = empty
    return state


@torch.no_grad()
def _fill(stored: Mapping[str, Tensor], own: dict[str, Tensor]) -> None:
    """Copy whole tensors into tensors of which each rank has a part."""
    for name, tensor in own.items():
        whole = stored[name]
        if isinstance(tensor, DTensor):
            mesh = tensor.device_mesh
            whole = distribute_tensor(whole.to(tensor.device), mesh, tensor.placements, src_data_rank=None)
        tensor.copy_(whole)


def _first_non_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """As `find_non_finite`, for tensors of which each rank has a part. All ranks give the same answer."""
    own = find_non_finite((name, t.to_local() if isinstance(t, DTensor) else t) for name, t in tensors)
    found: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return next((name for name in found if name is not None), None)


def strategy_settings(strategy: Any) -> dict[str, Any]:
    """Settings of the trainer that a strategy needs.

    Raises:
        ValueError: If another strategy than `ShardedStrategy` would shard the model.
    """
    if isinstance(strategy, ShardedStrategy):
        return {"inference_mode": False}  # what FSDP2 keeps of a validation is used by the next training step
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    if name.lower().startswith(("fsdp", "modelparallel")):
        raise ValueError(f"trainer.strategy {name} is not supported: use `--config strategy/fsdp` (FSDP2) instead")
    return {}
