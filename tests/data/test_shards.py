"""Shards: written whole or not at all, and read only by those they were made for."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from wand.data import shards
from wand.data.shards import Example, read_shard, write_shard


def example(index: int, length: int, frames: int, largest: int = 100) -> Example:
    generator = torch.Generator().manual_seed(index)
    conditioning = {
        "ids": torch.randint(0, largest, (length, 2), generator=generator),
        "is_text": torch.arange(length) > 1,
        "mel": torch.randn(2 * length, 5, generator=generator),
    }
    codes = torch.randint(0, largest, (3, frames), generator=generator)
    return Example(f"id-{index}", f"text {index}, grüße", f"speaker-{index % 2}", conditioning, codes)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "train-00000.safetensors"
    write_shard(path, [example(i, 3 + i, 5 * i) for i in range(4)], "ours")
    return path


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=5),
    st.sampled_from([100, 2**15, 2**15 + 1, 2**40]),
)
def test_examples_come_back(tmp_path_factory, sizes, largest):
    path = tmp_path_factory.mktemp("shards") / "x.safetensors"
    written = [example(i, length, frames, largest) for i, (length, frames) in enumerate(sizes)]
    write_shard(path, written, "ours")
    read = read_shard(path, "ours")
    assert len(read) == len(written)
    for own, other in zip(written, read, strict=True):
        assert (own.id, own.text, own.speaker) == (other.id, other.text, other.speaker)
        assert own.codes.dtype == other.codes.dtype
        assert torch.equal(own.codes, other.codes)
        assert own.conditioning.keys() == other.conditioning.keys()
        for name, tensor in own.conditioning.items():
            assert tensor.dtype == other.conditioning[name].dtype
            assert torch.equal(tensor, other.conditioning[name])


def test_codes_take_two_bytes(tmp_path):
    codes = torch.zeros(4, 50_000, dtype=torch.long)
    write_shard(tmp_path / "x", [Example("a", "a", "s", {"ids": torch.zeros(1, dtype=torch.long)}, codes)], "ours")
    assert (tmp_path / "x").stat().st_size < 2 * codes.numel() + 2000


def test_nothing_is_left_beside_a_shard(shard):
    assert [file.name for file in shard.parent.iterdir()] == [shard.name]


def test_anothers_shard_is_refused(shard):
    with pytest.raises(ValueError, match=r"another corpus, conditioner or codec \(ours, not theirs\)"):
        read_shard(shard, "theirs")


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="another corpus"):
        read_shard(tmp_path / "x.safetensors", "ours")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_shard_is_refused_in_one_line(shard, share):
    content = shard.read_bytes()
    shard.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"is damaged .* delete it and run again") as caught:
        read_shard(shard, "ours")
    assert "\n" not in str(caught.value)
    assert str(shard) in str(caught.value)


def failing_with(error: OSError):
    """A `save_file` that stops half-way."""

    def save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        save_file(tensors, path, metadata)
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])
        raise error

    return save


def test_a_full_disk_leaves_no_shard_and_says_what_helps(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(shards, "save_file", failing_with(full))
    path = tmp_path / "train-00000.safetensors"
    with pytest.raises(ValueError, match=r"no space left .* --data.cache_dir"):
        write_shard(path, [example(0, 3, 4)], "ours")
    assert list(tmp_path.iterdir()) == []


def test_another_failing_write_is_told_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "save_file", failing_with(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(PermissionError):
        write_shard(tmp_path / "x", [example(0, 3, 4)], "ours")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_keeps_the_shard_that_was_there(shard, monkeypatch):
    before = shard.read_bytes()
    monkeypatch.setattr(shards, "save_file", failing_with(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(ValueError, match="no space left"):
        write_shard(shard, [example(9, 3, 4)], "ours")
    assert shard.read_bytes() == before
