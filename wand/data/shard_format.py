"""Prepared utterances on disk: files with a checked index, whose rows are read on demand.

A shard is a safetensors file, so other tools can open it. Every tensor in it contains bytes:

====================  ==============================================================================================
header                JSON: the place of each tensor; its metadata has `FORMAT`, the fingerprint and the fields
``index``             one record per utterance (`record_type`): lengths, dtypes, CRC32
``words``             JSON ``[id, text, speaker, reference]`` of every utterance, one after another
``refused``           JSON ``[[id, why, detail], ...]`` of the utterances that were left out
``checksum``          CRC32 of every byte before it
``rows``              the tensors of every utterance, one utterance after another
====================  ==============================================================================================

Opening a shard checks everything up to the checksum, and keeps the number of columns and frames of each utterance in
memory. Reading a row reads the index of its shard again and checks the CRC32 of both.

Rows are read from the file and not through a memory map. Both share the system's page cache between processes. But the
pages of a map count as memory of the process that touched them, and a truncated file or a failing disk raises SIGBUS
under a map, while a read gives an error that names the shard. No file stays open, because a corpus has thousands of
shards.

`safetensors.torch.save_file` is not used: it writes metadata in random order (the same utterances must give the same
bytes), and only the owner can read its files.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch

FORMAT = "3"
REMEDY = "run `wand prepare`, which makes all damaged shards again, or delete it and run again"
TENSORS = ("index", "words", "refused", "checksum", "rows")

# The index stores a dtype as its position in this tuple, so only append to it.
DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)
NARROW = (torch.int8, torch.int16, torch.int32)


class Field(NamedTuple):
    """One tensor of an utterance, ``[L, *inner]``. L differs between utterances.

    The fields are the tensors of the conditioning, followed by the codes as ``[F, K]``.

    Args:
        name: Name in the conditioning, or ``codes``.
        dtype: Position in `DTYPES` of the tensor's dtype in memory.
        inner: The dimensions after the first.
    """

    name: str
    dtype: int
    inner: tuple[int, ...]


def record_type(fields: int) -> np.dtype[np.void]:
    """The dtype of an index record, for utterances with this number of fields."""
    return np.dtype(
        [
            ("row_end", "<u8"),  # bytes of `rows` up to the end of this utterance
            ("words_end", "<u8"),  # bytes of `words` up to the end of this utterance
            ("crc32", "<u4"),  # of the words, then of the row
            ("prefix", "<u4"),  # prefix columns that the conditioning takes
            ("lengths", "<u4", (fields,)),
            ("dtypes", "u1", (fields,)),  # on disk: integers are stored in a narrower dtype if their values fit
        ]
    )


def to_json(value: Any) -> bytes:
    """JSON without spaces, as UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def make_header(about: dict[str, str], sizes: dict[str, int]) -> bytes:
    """The header of a safetensors file whose tensors are bytes."""
    entries: dict[str, Any] = {"__metadata__": about}
    begin = 0
    for name, size in sizes.items():
        entries[name] = {"dtype": "U8", "shape": [size], "data_offsets": [begin, begin + size]}
        begin += size
    text = to_json(entries)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@lru_cache(maxsize=64)
def parse_fields(text: str) -> tuple[Field, ...]:
    """Parse the fields in the metadata. The shards of a corpus share one tuple."""
    return tuple(Field(name, dtype, tuple(inner)) for name, dtype, inner in json.loads(text))


def read_head(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, int]], bytes]:
    """Read the metadata, the place of every tensor in the file, and the bytes that the checksum covers.

    Raises:
        ValueError: If the file cannot be read, is damaged, or has another format.
    """
    with reading(path) as file:
        size = os.fstat(file.fileno()).st_size
        begin = file.read(8)
        length = int.from_bytes(begin, "little")
        if length > size - 8:
            raise damaged(path, "its header is cut off")
        header = file.read(length)
        try:
            about, places = _parse_header(header)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(path, "its header") from error
        if about.get("format") != FORMAT:
            raise ValueError(
                f"shard {path} has format {about.get('format')}, not {FORMAT}: it was made by another version of wand, "
                f"or for another corpus; delete it and run again"
            )
        if not {*TENSORS} <= places.keys():
            raise damaged(path, "its header")
        if places["rows"][1] != size:
            raise damaged(path, f"it has {size} bytes, not {places['rows'][1]}")
        head = begin + header + file.read(places["checksum"][0] - 8 - length)
        if crc32(head).to_bytes(4, "little") != file.read(4):
            raise damaged(path, "CRC32 of its index")
    return about, places, head


def _parse_header(header: bytes) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """Metadata, and the place of every tensor in the file."""
    entries = json.loads(header)
    about = dict(entries.pop("__metadata__", {}))
    origin = 8 + len(header)
    places = {}
    for name, entry in entries.items():
        first, last = entry["data_offsets"]
        places[name] = (origin + int(first), origin + int(last))
    return about, places


@contextlib.contextmanager
def reading(path: Path) -> Iterator[FileIO]:
    """Open a shard for reading. Errors of the file become a `ValueError` that names it."""
    try:
        with path.open("rb", buffering=0) as file:
            yield file
    except PermissionError as error:
        raise ValueError(
            f"shard {path} cannot be read ({error.strerror}): ask its owner for the right to read it, or set "
            f"--data.cache_dir to another folder"
        ) from error
    except OSError as error:
        raise ValueError(f"shard {path} cannot be read ({error.strerror}): {REMEDY}") from error


def read_between(file: FileIO, origin: int, begin: int, end: int) -> bytearray:
    """Read the bytes from `begin` to `end`, counted from `origin`; fewer if the file ends earlier."""
    content = bytearray(end - begin)
    file.seek(origin + begin)
    return content[: file.readinto(content)]


def damaged(path: Path, what: str) -> ValueError:
    """The error for a damaged shard."""
    return ValueError(f"shard {path} is damaged ({what}): {REMEDY}")
