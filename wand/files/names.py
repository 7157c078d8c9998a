"""Names of files that are made from names that users choose."""

from __future__ import annotations

import re
from zlib import crc32


def file_name(name: str) -> str:
    """A name that every file system takes, and that stays in its folder: `name`, or a part of it with a checksum.

    Args:
        name: Any text, such as the id of a sentence, which may be a path.
    """
    safe = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:80]
    return safe if safe == name and safe.strip(".") else f"{safe}.{crc32(name.encode()):08x}"
