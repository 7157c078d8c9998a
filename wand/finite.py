"""The guard against numbers that are not finite: in weights and in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def find_non_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return the name of the first tensor that holds NaN or an infinite value; None if there is none.

    On a GPU all tensors are checked before the result is read, so there is one device sync.

    Args:
        tensors: Names and tensors of any dtype, on any devices. Integers are always finite.
    """
    names, flags = [], []
    for name, tensor in tensors:
        if tensor.numel() and tensor.is_floating_point():
            names.append(name)
            flags.append(all_finite(tensor))
    if not flags:
        return None
    finite = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    return None if all(finite) else names[finite.index(False)]


def all_finite(tensor: Tensor) -> Tensor:
    """Whether all values of a tensor are finite: a bool tensor without dimensions, on the same device."""
    if tensor.dtype.itemsize == 1:
        tensor = tensor.float()  # float8 has no minimum
    # NaN is passed on by minimum and maximum. Unlike `isfinite`, they need no memory of the size of the tensor.
    return torch.isfinite(torch.stack(tensor.detach().aminmax())).all()


def check_weights(tensors: Mapping[str, Tensor], place: object) -> None:
    """Check that weights are finite.

    Args:
        tensors: The weights by name.
        place: File, folder or model, for the message.

    Raises:
        ValueError: If a tensor holds NaN or an infinite value. The message names it.
    """
    if (name := find_non_finite(tensors.items())) is not None:
        raise non_finite_error(place, name)


def non_finite_error(place: object, name: str) -> ValueError:
    """The error that a file, folder or model holds a tensor that is not finite."""
    return ValueError(
        f"{place} holds values that are not finite (NaN or infinite) in tensor {name!r}: use weights from before "
        f"this happened"
    )


def tensors_in(values: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested dictionaries and lists, with dotted names."""
    if isinstance(values, Tensor):
        yield name, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from tensors_in(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from tensors_in(value, f"{name}.{index}")
