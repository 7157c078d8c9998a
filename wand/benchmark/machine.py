"""The machine: its memory bandwidth and its free memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from wand.benchmark.cost import interleaved_milliseconds

# Larger than the caches of any processor.
READ_BYTES = 2**29
# Share of the free memory that a key/value cache may take.
USABLE = 0.8


def read_bandwidth(device: torch.device, size: int = READ_BYTES, repeats: int = 10) -> float:
    """Memory bandwidth in bytes per second, measured by summing a large tensor."""
    given = torch.ones(size // 4, device=device)
    (milliseconds,) = interleaved_milliseconds([given.sum], device, repeats, warmup=2)
    return given.nbytes / milliseconds * 1000


def free_bytes(device: torch.device) -> int:
    """Free memory of the device, in bytes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # memory that torch has cached is free too
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    # The system does not report free memory, so use the total.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def shortage(needed: int, device: torch.device) -> str | None:
    """The reason why this many bytes are not available; None if they are."""
    free = free_bytes(device)
    if needed <= USABLE * free:
        return None
    return f"its cache needs {needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free"


def describe(device: torch.device) -> str:
    """Describe the device and the torch version in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"
