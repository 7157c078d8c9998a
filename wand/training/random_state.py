"""The state of torch's random numbers, as checkpoints store it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of the CPU's random numbers, and of the GPU's if the device is one."""
    state = {"rng_state": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda_rng_state"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Continue from a `random_state`. A part that is missing is left as it is."""
    if "rng_state" in state:
        torch.set_rng_state(state["rng_state"].cpu())
    if "cuda_rng_state" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng_state"].cpu(), device)
