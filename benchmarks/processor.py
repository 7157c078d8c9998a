"""Processor time and a description of the processor, for the benchmarks of training."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import transformers


def processor_seconds(calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1) -> dict[str, float]:
    """Median processor time of each of several calls. The calls alternate; other load on the machine does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            if turn >= warmup:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(measured) for name, measured in times.items()}


def machine() -> str:
    """The processor and the library versions in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor() or platform.machine()} "
        f"({torch.backends.cpu.get_cpu_capability()}), {torch.get_num_threads()} thread(s); "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def dtype_name(dtype: torch.dtype) -> str:
    """The dtype without the module name: ``float32``."""
    return str(dtype).removeprefix("torch.")
