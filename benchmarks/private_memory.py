"""Private memory of a process, and of imports: ``python -m benchmarks.private_memory torch lightning.pytorch``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def private_mib() -> float:
    """Memory that this process does not share with others, in MiB (Linux only).

    Pages of libraries are shared while another process has loaded the same libraries.
    """
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    return sum(int(line[1]) for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:")) / 1024


if __name__ == "__main__":
    print(f"Python: {private_mib():.0f} MiB")
    for name in sys.argv[1:]:
        importlib.import_module(name)
        print(f"with {name}: {private_mib():.0f} MiB")
