"""Shards: files of prepared utterances, whose rows are read on demand (`wand.data.shard_format`)."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import overload
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wand.data.example import Example, Refusal
from wand.data.shard_format import (
    DTYPES,
    FORMAT,
    NARROW,
    Field,
    damaged,
    make_header,
    parse_fields,
    read_between,
    read_head,
    reading,
    record_type,
    to_json,
)
from wand.files.writing import replacing
from wand.model.batch import Conditioning
from wand.model.columns import ColumnLayout


def write_shard(
    path: Path,
    examples: Sequence[Example],
    fingerprint: str,
    prefix_columns: Callable[[Conditioning], int],
    refused: Sequence[Refusal] = (),
) -> None:
    """Write a shard as a whole, so that no half-written shard is ever read.

    Args:
        path: Final name of the shard.
        examples: The utterances; empty if all were refused.
        fingerprint: Digest of source, conditioner and codec. `Shard` refuses a file with another one.
        prefix_columns: Gives the number of prefix columns of a conditioning (`Conditioner.length`).
        refused: The utterances that were left out.

    Raises:
        ValueError: If the disk is full.
    """
    fields = _fields(examples[0]) if examples else []
    records, words, rows = [], bytearray(), bytearray()
    for example in examples:
        assert _fields(example) == fields, f"the tensors of {example.id} have other names, dtypes or dimensions"
        stored = [_narrowed(tensor) for tensor in _tensors(example)]
        said = to_json([example.id, example.text, example.speaker, example.reference])
        row = b"".join(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() for tensor in stored)
        words += said
        rows += row
        lengths = tuple(len(tensor) for tensor in stored)
        dtypes = tuple(DTYPES.index(tensor.dtype) for tensor in stored)
        prefix = prefix_columns(example.conditioning)
        records.append((len(rows), len(words), crc32(row, crc32(said)), prefix, lengths, dtypes))
    parts = {
        "index": np.array(records, record_type(len(fields))).tobytes(),
        "words": bytes(words),
        "refused": to_json([[r.id, r.why, r.detail] for r in refused]),
    }
    about = {"format": FORMAT, "fingerprint": fingerprint, "fields": json.dumps(fields)}
    head = make_header(about, {name: len(part) for name, part in parts.items()} | {"checksum": 4, "rows": len(rows)})
    head += b"".join(parts.values())
    with replacing(path, "free some space, or set --data.cache_dir to another disk") as partial:
        write_file(partial, [head, crc32(head).to_bytes(4, "little"), rows])


def write_file(path: Path, parts: Iterable[bytes | bytearray]) -> None:
    """Write parts one after another."""
    with path.open("wb") as file:
        for part in parts:
            file.write(part)


Records = npt.NDArray[np.void]
"""The index of a shard: one `record_type` per utterance."""


class _OnDemand(Sequence[Example]):
    """Utterances that are read when they are asked for."""

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """One utterance, or a list of them.

        Raises:
            ValueError: If its bytes are damaged; names the shard.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self._read_example(range(len(self))[index])

    @abstractmethod
    def _read_example(self, number: int) -> Example:
        """One utterance, by its number from 0."""


class Shard(_OnDemand):
    """The utterances of one file. Opening it checks the index; index and rows are read on demand.

    Args:
        path: The file.
        fingerprint: Expected digest of source, conditioner and codec.

    Attributes:
        sizes: Prefix columns and code frames of every utterance, ``[N, 2]``; all that stays in memory.

    Raises:
        ValueError: If the file cannot be read, its index is damaged, or its fingerprint is another one.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        about, places, head = read_head(path)
        if about.get("fingerprint") != fingerprint:
            raise ValueError(
                f"shard {path} was prepared for another corpus, conditioner or codec "
                f"({about.get('fingerprint')}, not {fingerprint})"
            )
        self.fields = parse_fields(about["fields"])
        self._index = places["index"]
        self._words_begin = places["words"][0]
        self._rows_begin = places["rows"][0]
        index = head[slice(*self._index)]
        self._index_crc32 = crc32(index)
        records = np.frombuffer(index, record_type(len(self.fields)))
        sizes = np.stack([records["prefix"], records["lengths"][:, -1:].reshape(-1)], axis=1)
        self.sizes = sizes.astype(np.min_scalar_type(sizes.max(initial=0)))

    def __len__(self) -> int:
        return len(self.sizes)

    def _read_example(self, number: int) -> Example:
        with reading(self.path) as file:
            records = self._read_index(file)
            words, row = self._read(file, records, number)
        id, text, speaker, reference = json.loads(words)
        *conditioning, codes = self._unpack(records[number], row)
        names = [field.name for field in self.fields]
        return Example(id, text, speaker, dict(zip(names, conditioning, strict=False)), codes.T, reference)

    def check(self) -> None:
        """Read every row.

        Raises:
            ValueError: If one is damaged; names the shard and the row.
        """
        with reading(self.path) as file:
            records = self._read_index(file)
            for number in range(len(self)):
                self._read(file, records, number)

    def refusals(self) -> list[Refusal]:
        """The utterances that were left out when the shard was made."""
        _, places, head = read_head(self.path)
        return [Refusal(*parts) for parts in json.loads(head[slice(*places["refused"])])]

    def own_references(self) -> int:
        """Number of utterances that are their own reference.

        Raises:
            ValueError: If the words are damaged; names the shard.
        """
        with reading(self.path) as file:
            ends = [0, *self._read_index(file)["words_end"].tolist()]
            words = read_between(file, self._words_begin, 0, ends[-1])
        try:
            said = [json.loads(words[begin:end]) for begin, end in pairwise(ends)]
        except ValueError as error:
            raise damaged(self.path, "its words") from error
        return sum(id == reference for id, _, _, reference in said)

    def _read_index(self, file: FileIO) -> Records:
        """Read the records of all utterances; they must be those that were checked when the shard was opened."""
        index = read_between(file, 0, *self._index)
        if crc32(index) != self._index_crc32:
            raise damaged(self.path, "its index has changed")
        return np.frombuffer(index, record_type(len(self.fields)))

    def _read(self, file: FileIO, records: Records, number: int) -> tuple[bytearray, bytearray]:
        """Read the words and tensors of one utterance and check their CRC32."""
        words_begin, row_begin = (int(records[end][number - 1]) if number else 0 for end in ("words_end", "row_end"))
        record = records[number]
        words = read_between(file, self._words_begin, words_begin, int(record["words_end"]))
        row = read_between(file, self._rows_begin, row_begin, int(record["row_end"]))
        if crc32(row, crc32(words)) != record["crc32"]:
            raise damaged(self.path, f"CRC32 of row {number}")
        return words, row

    def _unpack(self, record: np.void, row: bytearray) -> list[Tensor]:
        tensors: list[Tensor] = []
        begin = 0
        for field, length, place in zip(self.fields, record["lengths"].tolist(), record["dtypes"], strict=True):
            dtype = DTYPES[place]
            end = begin + length * math.prod(field.inner) * dtype.itemsize
            # The slice is a copy, so it is aligned for every dtype. torch refuses an empty buffer.
            flat = torch.frombuffer(row[begin:end], dtype=dtype) if end > begin else torch.empty(0, dtype=dtype)
            tensors.append(flat.view(length, *field.inner).to(DTYPES[field.dtype]))
            begin = end
        return tensors


class ShardedExamples(_OnDemand):
    """The utterances of several shards, one after another, read on demand.

    Args:
        files: The shards.
        fingerprint: Expected digest of source, conditioner and codec.

    Raises:
        ValueError: If a file cannot be read, its index is damaged, or its fingerprint is another one.
    """

    def __init__(self, files: Iterable[Path], fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._shards = [Shard(file, fingerprint) for file in files]
        self._ends = np.cumsum([len(shard) for shard in self._shards])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _read_example(self, number: int) -> Example:
        place = int(np.searchsorted(self._ends, number, side="right"))
        return self._shards[place][number - int(self._ends[place])]

    def lengths(self, layout: ColumnLayout) -> npt.NDArray[np.int32]:
        """Prefix columns and speech columns of every utterance, ``[N, 2]``. No row is read.

        Args:
            layout: How codes become columns.
        """
        sizes = np.concatenate([np.zeros((0, 2), np.uint8), *(shard.sizes for shard in self._shards)])
        columns = np.array([layout.columns_of(count) for count in range(int(sizes[:, 1].max(initial=0)) + 1)])
        lengths = sizes.astype(np.int32)
        lengths[:, 1] = columns[sizes[:, 1]]
        return lengths


def _tensors(example: Example) -> list[Tensor]:
    return [*example.conditioning.values(), example.codes.T]


def _fields(example: Example) -> list[Field]:
    fields = []
    for name, tensor in zip([*example.conditioning, "codes"], _tensors(example), strict=True):
        if tensor.dtype not in DTYPES or tensor.ndim == 0:
            raise ValueError(
                f"tensor {name!r} of utterance {example.id!r} is {tensor.dtype} with {tensor.ndim} dimensions: shards "
                f"cannot hold it"
            )
        fields.append(Field(name, DTYPES.index(tensor.dtype), tuple(tensor.shape[1:])))
    return fields


def _narrowed(tensor: Tensor) -> Tensor:
    """Convert integers to the smallest dtype that holds their values; most of them are codes and characters."""
    if tensor.dtype not in (torch.int32, torch.int64) or tensor.numel() == 0:
        return tensor
    low, high = (int(bound) for bound in tensor.aminmax())
    fits = [dtype for dtype in NARROW if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max]
    return tensor.to(fits[0]) if fits else tensor
