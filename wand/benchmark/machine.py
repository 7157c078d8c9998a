"""What the machine can do: how fast it reads memory, and how much of that is free."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from wand.benchmark.cost import interleaved_milliseconds

# Larger than any cache between memory and the arithmetic.
READ_BYTES = 2**29
# Of the free memory, what a cache may take.
USABLE = 0.8


def read_bandwidth(device: torch.device, size: int = READ_BYTES, repeats: int = 10) -> float:
    """Bytes a second at which a large tensor is read: the time of its sum. All of a step's weights are read so."""
    given = torch.ones(size // 4, device=device)
    (milliseconds,) = interleaved_milliseconds([given.sum], device, repeats, warmup=2)
    return given.nbytes / milliseconds * 1000


def free_bytes(device: torch.device) -> int:
    """Memory that can still be taken."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch keeps for itself is free too
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    # Where the system does not tell what is free: all there is.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def shortage(needed: int, device: torch.device) -> str | None:
    """Why so many bytes are not to be had; None where they are."""
    free = free_bytes(device)
    if needed <= USABLE * free:
        return None
    return f"its cache needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free"


def describe(device: torch.device) -> str:
    """The device and what computes on it, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"
