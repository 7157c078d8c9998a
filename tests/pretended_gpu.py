"""A pretended GPU: tensors that say they are on ``cuda:0`` and are computed on the CPU.

It finds, without a GPU, what would fail or wait on one: operations on tensors of two devices, CUDA's own rules of
autocast, and, while a CUDA graph is captured, everything that waits for the host. Graphs are captured and replayed: a
replay computes the recorded operations again, in the same tensors, and runs no Python code of the model.

A backward pass cannot run: torch's engine asks for a real device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from wand.attention import flex

GPU = torch.device("cuda:0")
CPU = torch.device("cpu")
aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default)
# CUDA copies indices that are on the CPU.
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)
# Operations whose result the host must know before it can go on.
WAITING = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)


class OnGpu(Tensor):
    """A tensor on the pretended GPU.

    Args:
        held: The tensor on the CPU that holds its numbers.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        with torch.inference_mode(False):  # a view of a parameter is no inference tensor
            made: OnGpu = Tensor._make_wrapper_subclass(cls, held.shape, device=GPU, **layout)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} runs outside of the fixture `gpu`")


class _Graph:
    """Takes the place of `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: list[tuple[Tensor, Tensor]] = []  # what the recorded operations change, and its value

    def begin(self, func: Any, args: Any, kwargs: Any) -> None:
        """Note what an operation is going to change."""
        arguments = func._schema.arguments
        named = {**dict(zip((entry.name for entry in arguments), args, strict=False)), **kwargs}
        written = [entry.name for entry in arguments if entry.alias_info is not None and entry.alias_info.is_write]
        self.before += [(x, x.clone()) for name in written for x in tree_leaves(named.get(name))]

    def undo(self) -> None:
        """Take back all changes: CUDA records operations without running them."""
        for tensor, value in reversed(self.before):
            tensor.copy_(value)
        self.before = []

    def replay(self) -> None:
        """Compute the recorded operations again, and put what is new where it was."""
        with torch.inference_mode():
            for func, args, kwargs, made in self.calls:
                given = {_storage(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and _storage(old) not in given:
                        old.copy_(new)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Device(TorchDispatchMode):
    """Computes the operations of the pretended GPU."""

    # As in FakeTensorMode, torch then does not initialise CUDA.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self) -> None:
        super().__init__()
        self.captured: _Graph | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = {id(x.held): x for x in tree_leaves((args, kwargs)) if isinstance(x, OnGpu)}
        target = kwargs.get("device")
        if not known and not _is_gpu(target):
            return func(*args, **kwargs)
        _check_devices(func, args, kwargs, bool(known))
        to_host = bool(known) and target is not None and not _is_gpu(target)
        if self.captured is not None and (to_host or _waits(func, args, bool(known))):
            raise RuntimeError(f"{func} waits for the host, which is not allowed while a graph is captured")
        own_args, own_kwargs = tree_map(_held, (args, kwargs))
        if self.captured is not None:
            self.captured.begin(func, own_args, own_kwargs)
        made = func(*own_args, **own_kwargs)
        if not known and func in COPIES:
            made = made.clone()
        if self.captured is not None:
            self.captured.calls.append((func, own_args, own_kwargs, made))
        if to_host or (func is aten.copy_.default and not isinstance(args[0], OnGpu)):
            return made
        # What an operation changes in place is the tensor that it was given.
        return tree_map(lambda x: known.get(id(x), OnGpu(x)) if isinstance(x, Tensor) else x, made)

    @contextmanager
    def capture(self, graph: _Graph, **_: Any) -> Iterator[None]:
        """Takes the place of `torch.cuda.graph`."""
        self.captured = graph
        try:
            yield
        finally:
            self.captured = None
            graph.undo()


def _is_gpu(device: torch.device | None) -> bool:
    return device is not None and device.type == "cuda"


def _held(value: Any) -> Any:
    if isinstance(value, torch.device):
        return CPU
    return value.held if isinstance(value, OnGpu) else value


def _check_devices(func: Any, args: Any, kwargs: Any, reads: bool) -> None:
    if func in COPIES or not reads:
        return
    given = (args[0], *args[2:]) if func in INDEXING else (args, kwargs)
    others = [x for x in tree_leaves(given) if isinstance(x, Tensor) and not isinstance(x, OnGpu)]
    changed = args[0] if func._schema.is_mutable else None
    if any(x.ndim or x is changed for x in others):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but one is on the CPU")
    if (generator := kwargs.get("generator")) is not None and generator.device.type != "cuda":
        raise RuntimeError(f"{func}: the generator is on the CPU")


def _waits(func: Any, args: Any, reads: bool) -> bool:
    """Whether the host waits for an operation, or copies something to the device."""
    if func in INDEXING:
        indices = [x for x in args[1] if x is not None]
        return any(not isinstance(x, OnGpu) or x.dtype == torch.bool for x in indices)
    if func in COPIES:
        return not all(isinstance(x, OnGpu) for x in args if isinstance(x, Tensor))
    return func in WAITING


class _Methods(TorchFunctionMode):
    """Methods of tensors that torch does not pass on as operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.pin_memory:
            return args[0]
        if args and isinstance(args[0], OnGpu):
            if func is Tensor.tolist:
                return args[0].cpu().tolist()
            if func in (Tensor.data_ptr, Tensor.untyped_storage):
                return func(args[0].held)
            if func is Tensor.data.__set__:
                args[0].held = args[1].held
                return None
        return func(*args, **kwargs or {})


def _flex_attention(
    query: Tensor, key: Tensor, value: Tensor, *, score_mod: Any, block_mask: Any, scale: float | None, **_: Any
) -> Tensor:
    """FlexAttention without a kernel and without tiles."""
    places = torch.meshgrid(*(torch.arange(n, device=GPU) for n in (*query.shape[:3], key.shape[2])), indexing="ij")
    key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    scores = (query @ key.mT).float() * (scale or query.shape[-1] ** -0.5)
    scores = scores if score_mod is None else score_mod(scores, *places)
    return (scores.masked_fill(~block_mask.mask_mod(*places), -torch.inf).softmax(-1) @ value.float()).to(query.dtype)


@contextmanager
def _device_guard() -> Iterator[None]:
    """Let a build of torch for CPUs name CUDA's devices: the guard that chooses the current one does nothing."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before, lifts = guards[1], torch._C._only_lift_cpu_tensors()
    guards[1] = guards[0]
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        guards[1] = before
        torch._C._set_only_lift_cpu_tensors(lifts)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A pretended GPU. Skipped if there is a real one."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, and tests/cuda runs on it")
    device, stream = _Device(), SimpleNamespace(wait_stream=lambda other: None)
    stand_ins: dict[str, Callable[..., Any]] = {
        "CUDAGraph": _Graph,
        "Stream": lambda: stream,
        "current_stream": lambda device=None: stream,
        "device": nullcontext,
        "get_device_properties": lambda device: SimpleNamespace(total_memory=2**40),
        "graph": device.capture,
        "graph_pool_handle": lambda: None,
        "is_bf16_supported": lambda: True,
        "stream": nullcontext,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(flex, "_compiled", lambda: _flex_attention)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    with _device_guard(), _Methods(), device:
        yield GPU
