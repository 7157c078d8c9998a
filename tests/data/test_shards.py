"""Shards: written whole or not at all, read row by row, and only by those they were made for."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from wand.data import shards
from wand.data.example import Example, Refusal
from wand.data.shard_format import DTYPES
from wand.data.shards import Shard, ShardedExamples
from wand.model.batch import Conditioning
from wand.model.columns import ColumnLayout, FlattenedLayout

DAMAGED = r"is damaged .* delete it and run again"


def example(index: int, length: int, frames: int, largest: int = 100) -> Example:
    generator = torch.Generator().manual_seed(index)
    conditioning = {
        "ids": torch.randint(0, largest, (length, 2), generator=generator),
        "is_text": torch.arange(length) > 1,
        "codes": torch.randn(2 * length, 5, generator=generator),
    }
    codes = torch.randint(0, largest, (3, frames), generator=generator)
    return Example(f"id-{index}", f"text {index}, grüße", f"speaker-{index % 2}", conditioning, codes)


def columns(conditioning: Conditioning) -> int:
    return 7 + len(conditioning["ids"])


def write_shard(path: Path, examples: list[Example], refused: Iterable[Refusal] = ()) -> None:
    shards.write_shard(path, examples, "ours", columns, list(refused))


def same(own: Example, other: Example) -> None:
    assert (own.id, own.text, own.speaker, own.reference) == (other.id, other.text, other.speaker, other.reference)
    assert [*own.conditioning] == [*other.conditioning]
    pairs = [(own.codes, other.codes), *((own.conditioning[n], other.conditioning[n]) for n in own.conditioning)]
    for mine, its in pairs:
        assert mine.dtype == its.dtype
        assert torch.equal(mine, its)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "train-00000.safetensors"
    write_shard(path, [example(i, 3 + i, 5 * i) for i in range(4)])
    return path


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=5),
    st.sampled_from([100, 2**7, 2**7 + 1, 2**15, 2**15 + 1, 2**31, 2**31 + 1, 2**40]),
)
def test_examples_come_back(tmp_path_factory, sizes, largest):
    path = tmp_path_factory.mktemp("shards") / "x.safetensors"
    written = [example(i, length, frames, largest) for i, (length, frames) in enumerate(sizes)]
    write_shard(path, written)
    read = Shard(path, "ours")
    assert len(read) == len(written)
    for own, other in zip(written, read, strict=True):
        same(own, other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_by_bit(tmp_path, dtype):
    numbers = torch.tensor([0, 1, 2, 100, 127]) if dtype == torch.uint8 else torch.tensor([0, 1, -1, 100, -128])
    if dtype.is_floating_point:
        limits = torch.finfo(dtype)
        extreme = torch.tensor([limits.max, limits.min, limits.tiny, float("inf"), float("nan")], dtype=dtype)
    elif dtype == torch.bool:
        extreme = torch.tensor([True, False])
    else:
        extreme = torch.tensor([torch.iinfo(dtype).max, torch.iinfo(dtype).min], dtype=dtype)
    # An odd number of bytes comes before: nothing in a row is aligned.
    written = [
        Example(str(i), "a", "s", {"odd": torch.ones(1 + 2 * i, dtype=torch.bool), "x": x}, torch.ones(1, 3).long())
        for i, x in enumerate((numbers.to(dtype), extreme, torch.empty(0, dtype=dtype)))
    ]
    shards.write_shard(tmp_path / "x", written, "ours", lambda conditioning: 1)
    for own, other in zip(written, Shard(tmp_path / "x", "ours"), strict=True):
        mine, its = own.conditioning["x"], other.conditioning["x"]
        assert its.dtype == dtype
        assert mine.view(torch.uint8).tolist() == its.view(torch.uint8).tolist()


def test_a_tensor_that_shards_cannot_hold_is_refused(tmp_path):
    for tensor in (torch.zeros(2, dtype=torch.complex64), torch.tensor(3)):
        with pytest.raises(ValueError, match="'x' of utterance 'a' is torch"):
            write_shard(tmp_path / "x", [Example("a", "a", "s", {"x": tensor}, torch.zeros(1, 3).long())])


def test_codes_take_two_bytes(tmp_path):
    codes = torch.zeros(4, 50_000, dtype=torch.long)
    write_shard(tmp_path / "x", [Example("a", "a", "s", {"ids": torch.zeros(1, dtype=torch.long)}, codes)])
    assert (tmp_path / "x").stat().st_size < 2 * codes.numel() + 2000


def test_one_large_number_widens_its_own_row_only(tmp_path):
    ids = torch.arange(1000) * 30
    rows = [Example(str(i), "", "", {"ids": ids.clone()}, torch.zeros(1, 1).long()) for i in range(9)]
    write_shard(tmp_path / "small", rows)
    rows[4].conditioning["ids"][0] = 151_000
    write_shard(tmp_path / "large", rows)
    assert (tmp_path / "large").stat().st_size - (tmp_path / "small").stat().st_size == 2 * 1000


def test_nothing_is_left_beside_a_shard(shard):
    assert [file.name for file in shard.parent.iterdir()] == [shard.name]


def test_other_tools_open_a_shard(shard):
    with safe_open(shard, framework="pt") as file:
        assert file.metadata()["fingerprint"] == "ours"
        words = bytes(file.get_tensor("words").tolist()).decode()
        assert len(file.get_tensor("index")) > 0
    assert words.startswith('["id-0","text 0, grüße","speaker-0",null]["id-1",')


def test_the_same_utterances_give_the_same_bytes(tmp_path):
    """In a process that shuffles its hashes in its own way."""
    write = "write_shard(Path(sys.argv[1]), [example(i, 3, 4) for i in range(3)], [Refusal('a', 'b', 'c')])"
    code = f"from pathlib import Path; from tests.data.test_shards import *; import sys; {write}"
    shuffled = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, env=shuffled)
    write_shard(tmp_path / "here", [example(i, 3, 4) for i in range(3)], [Refusal("a", "b", "c")])
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_others_may_read_what_the_umask_allows(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_shard(tmp_path / "x", [example(0, 3, 4)])
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


def test_anothers_shard_is_refused(shard):
    with pytest.raises(ValueError, match=r"another corpus, conditioner or codec \(ours, not theirs\)"):
        Shard(shard, "theirs")


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="another corpus"):
        Shard(tmp_path / "x.safetensors", "ours")


def test_the_format_before_is_refused_in_one_line(tmp_path):
    about = {"format": "2", "fingerprint": "ours", "utterances": json.dumps([["a", "a", "s", None]]), "refused": "[]"}
    tensors = {"codes.values": torch.zeros(3, 1, dtype=torch.int16), "codes.lengths": torch.tensor([3])}
    save_file(tensors, tmp_path / "x.safetensors", about)
    with pytest.raises(ValueError, match=r"has format 2, not 3: .* delete it and run again") as caught:
        Shard(tmp_path / "x.safetensors", "ours")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_shard_is_refused_in_one_line(shard, share):
    content = shard.read_bytes()
    shard.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=DAMAGED) as caught:
        Shard(shard, "ours")
    assert "\n" not in str(caught.value)
    assert str(shard) in str(caught.value)


def test_every_bit_is_guarded(shard):
    """A flipped bit before the rows is found on opening, one in a row when that row is read, and no other."""
    content = bytearray(shard.read_bytes())
    rows = Shard(shard, "ours")._rows_begin
    expected = list(Shard(shard, "ours"))
    for place in range(len(content)):
        content[place] ^= 1 << place % 8
        shard.write_bytes(content)
        content[place] ^= 1 << place % 8
        if place < rows:
            with pytest.raises(ValueError, match=r"delete it and run again$") as caught:
                Shard(shard, "ours")
            assert "\n" not in str(caught.value)
            assert str(shard) in str(caught.value)
            continue
        opened, refused = Shard(shard, "ours"), []
        for i, own in enumerate(expected):
            try:
                same(opened[i], own)
            except ValueError as error:
                refused.append(str(error))
        assert len(refused) == 1
        assert f"{shard} is damaged" in refused[0]
        with pytest.raises(ValueError, match=DAMAGED):
            opened.check()


def test_a_shard_that_shrinks_or_goes_while_it_is_open_is_named(shard):
    opened = Shard(shard, "ours")
    opened.check()
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size - 1)
    opened[0]
    with pytest.raises(ValueError, match=DAMAGED):
        opened[3]
    shard.unlink()
    with pytest.raises(ValueError, match=r"cannot be read \(No such file or directory\)"):
        opened[0]


def test_what_was_left_out_comes_back(tmp_path):
    refused = [Refusal("a", "too short", "it lasts 0.1 s"), Refusal("b", "its text", "ï is unknown\nhere")]
    write_shard(tmp_path / "x", [], refused)
    opened = Shard(tmp_path / "x", "ours")
    assert len(opened) == 0
    assert opened.refusals() == refused


# -- several shards as one sequence ------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Shards of 3, 0 and 4 utterances."""
    made = []
    for number, count in enumerate((3, 0, 4)):
        made.append(tmp_path / f"train-{number:05d}.safetensors")
        write_shard(made[-1], [example(10 * number + i, 1 + i, 2 + i) for i in range(count)])
    return made


def test_shards_together_are_a_list(files):
    """The plain list is the truth: every index, every slice, whatever the order."""
    plain = [example(n, 1 + n % 10, 2 + n % 10) for n in (0, 1, 2, 20, 21, 22, 23)]
    read = ShardedExamples(files, "ours")
    assert len(read) == len(plain)
    for i in (6, 0, 3, 2, -1, -7, 5, 1, 4, 3):
        same(read[i], plain[i])
    for one in (slice(1, 5), slice(None, None, -2), slice(5, 99), slice(3, 3)):
        assert [e.id for e in read[one]] == [e.id for e in plain[one]]
    assert [e.id for e in read] == [e.id for e in plain]
    for i in (7, -8):
        with pytest.raises(IndexError):
            read[i]
    assert len(ShardedExamples([], "ours")) == 0


@pytest.mark.parametrize(
    "layout",
    [ColumnLayout(3, 900, 901), FlattenedLayout(1, 900, 901, (300, 300, 300), (0, 1, 2))],
    ids=["delay", "flat"],
)
def test_lengths_are_those_of_conditioning_and_columns(files, layout):
    read = ShardedExamples(files, "ours")
    expected = [[columns(e.conditioning), len(layout.to_columns(e.codes))] for e in read]
    assert read.lengths(layout).tolist() == expected
    assert ShardedExamples([], "ours").lengths(layout).shape == (0, 2)


def test_lengths_need_no_rows(files):
    content = bytearray(files[2].read_bytes())
    content[-1] ^= 1
    files[2].write_bytes(content)
    read = ShardedExamples(files, "ours")
    assert len(read.lengths(ColumnLayout(3, 900, 901))) == 7
    with pytest.raises(ValueError, match=DAMAGED):
        read[6]


def test_rows_are_not_held_in_memory(tmp_path):
    """Neither what is opened nor what has been read stays: 16 MiB on disk, a few kilobytes here."""
    written = [
        Example(str(i), "a" * 100, "s", {"mel": torch.full((2**16, 1), float(i))}, torch.zeros(1, 3).long())
        for i in range(64)
    ]
    shards.write_shard(tmp_path / "x", written, "ours", lambda conditioning: 1)
    assert (tmp_path / "x").stat().st_size > 2**24
    del written
    Shard(tmp_path / "x", "ours")  # what is cached once for all
    tracemalloc.start()
    opened = ShardedExamples([tmp_path / "x"], "ours")
    assert tracemalloc.get_traced_memory()[1] < 2**17
    total = sum(float(opened[i].conditioning["mel"][0]) for i in range(64))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == sum(range(64))
    assert held < 2**17
    assert peak < 2**21


# -- disks -------------------------------------------------------------------------------------------------------


def failing_with(error: OSError):
    """A `write_file` that stops half-way."""

    def write(path: Path, parts: Iterable[bytes]) -> None:
        content = b"".join(parts)
        path.write_bytes(content[: len(content) // 2])
        raise error

    return write


def test_a_full_disk_leaves_no_shard_and_says_what_helps(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(shards, "write_file", failing_with(full))
    path = tmp_path / "train-00000.safetensors"
    with pytest.raises(ValueError, match=r"no space left .* --data.cache_dir"):
        write_shard(path, [example(0, 3, 4)])
    assert list(tmp_path.iterdir()) == []


def test_another_failing_write_is_told_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "write_file", failing_with(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(PermissionError):
        write_shard(tmp_path / "x", [example(0, 3, 4)])
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_keeps_the_shard_that_was_there(shard, monkeypatch):
    before = shard.read_bytes()
    monkeypatch.setattr(shards, "write_file", failing_with(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(ValueError, match="no space left"):
        write_shard(shard, [example(9, 3, 4)])
    assert shard.read_bytes() == before
