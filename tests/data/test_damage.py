"""Damaged, foreign and read-only caches: found, named, made again or used as they are."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from wand.backbones.encodec_lm import EncodecLM
from wand.data import prepare as preparation
from wand.data.check import check_cache, mend_cache
from wand.data.example import Example, Refusal
from wand.data.prepare import ShardCache, prepare
from wand.data.shards import Shard, ShardedExamples, write_shard
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SPLITS, Utterance
from wand.speech.voices import save_voice

# Every 11th bit: all parts of a file and all places in a byte.
STRIDE = 11


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    for path in made.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(made)


class Counted(ManifestCorpus):
    """A corpus of codes that counts what is asked for."""

    asked: list[str]

    def codes(self, utterance: Utterance):
        self.asked.append(utterance.id)
        return super().codes(utterance)


@pytest.fixture
def source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setenv("WAND_CACHE", str(folder / "memory"))
    monkeypatch.setattr(preparation, "UTTERANCES_PER_SHARD", 2)
    lines = [
        {"id": f"{split}-{i}", "text": f"it is {'abcdefgh'[i]}", "split": split, "codes": [[i, 1, 2] * 20] * 3}
        for split, count in zip(SPLITS, (6, 2, 1), strict=True)
        for i in range(count)
    ]
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    corpus = Counted(str(folder / "x.jsonl"))
    corpus.asked = []
    return corpus


@pytest.fixture
def lm() -> EncodecLM:
    return EncodecLM(architecture=TINY)


@pytest.fixture
def cache(source: Counted, lm: EncodecLM, folder: Path) -> ShardCache:
    made = prepare(source, lm, folder / "cache", workers=0)
    source.asked.clear()
    return made


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def contents(shard: Shard) -> list[object]:
    rows = [(e.id, e.text, e.speaker, e.reference, e.codes.tolist(), *map(str, e.conditioning.items())) for e in shard]
    return [rows, shard.refusals(), shard.sizes.tolist()]


def test_no_flipped_bit_gives_other_data(tmp_path: Path) -> None:
    """In header, index, words, refusals, checksum and rows."""
    path = tmp_path / "x.safetensors"
    codes = torch.tensor([[1, 300]])
    made = [Example(str(i), "a", "s", {"ids": torch.tensor([i, 2])}, codes) for i in range(2)]
    write_shard(path, made, "ours", lambda conditioning: 2, [Refusal("c", "its text", "none")])
    whole, expected = path.read_bytes(), contents(Shard(path, "ours"))
    for bit in range(0, 8 * len(whole), STRIDE):
        flip(path, bit)
        with pytest.raises(ValueError, match=rf"^shard {path} (is damaged|has format|was prepared for another)"):
            contents(Shard(path, "ours"))
        path.write_bytes(whole)
    assert contents(Shard(path, "ours")) == expected


def test_no_bit_that_flips_after_opening_gives_other_data(tmp_path: Path) -> None:
    """The index is read again with every row."""
    path = tmp_path / "x.safetensors"
    made = [Example(str(i), "a", "s", {"ids": torch.tensor([i, 2])}, torch.tensor([[1, 300]])) for i in range(2)]
    write_shard(path, made, "ours", lambda conditioning: 2)
    whole, opened = path.read_bytes(), Shard(path, "ours")
    expected = [(e.id, e.codes.tolist(), str(e.conditioning)) for e in opened]
    refused = set()
    for bit in range(0, 8 * len(whole), 3 * STRIDE):
        flip(path, bit)
        try:
            assert [(e.id, e.codes.tolist(), str(e.conditioning)) for e in opened] == expected
        except ValueError as error:
            refused.add(str(error).split("(")[1].split(")")[0])
        path.write_bytes(whole)
    assert refused == {"its index has changed", "CRC32 of row 0", "CRC32 of row 1"}


def test_no_flipped_bit_changes_how_much_is_prepared(cache: ShardCache) -> None:
    path = cache.folder / "splits.json"
    whole, expected = path.read_bytes(), cache.finished()
    assert expected == {"train": 6, "validation": 2, "test": 1}
    for bit in range(0, 8 * len(whole), STRIDE):
        flip(path, bit)
        assert cache.finished() in ({}, expected)
        path.write_bytes(whole)


def damage_row(cache: ShardCache) -> Path:
    path = cache.shard("train", 1)
    flip(path, 8 * path.stat().st_size - 1)
    return path


def test_a_thorough_preparation_makes_a_damaged_row_again(cache, source, lm, folder, capsys) -> None:
    whole = {file.name: file.read_bytes() for file in cache.folder.glob("*.safetensors")}
    path = damage_row(cache)
    cache.shard("test", 0).write_bytes(b"")
    mend_cache(cache)
    prepare(source, lm, folder / "cache", workers=0)
    assert {file.name: file.read_bytes() for file in cache.folder.glob("*.safetensors")} == whole
    assert set(source.asked) == {"train-2", "train-3", "test-0"}
    said = capsys.readouterr().out
    for damaged in (path, cache.shard("test", 0)):
        assert said.count(f"shard {damaged} is damaged: it is made again") == 1
    check_cache(cache)


def test_a_damaged_row_names_shard_and_remedy_when_it_is_read(cache, source, lm, folder) -> None:
    path = damage_row(cache)
    assert prepare(source, lm, folder / "cache", workers=0) == cache  # as a fit does: rows are checked when read
    examples = ShardedExamples(cache.files("train"), cache.fingerprint)
    with pytest.raises(ValueError, match=rf"shard {path} is damaged \(CRC32 of row 1\): run `wand prepare`"):
        list(examples)


def test_nothing_is_mended_before_the_first_preparation(cache, folder) -> None:
    mend_cache(ShardCache(folder / "none", "x"))
    (cache.folder / "splits.json").unlink()
    damage_row(cache)
    mend_cache(cache)


# -- rights ------------------------------------------------------------------------------------------------------


@contextmanager
def reading_only(folder: Path) -> Iterator[None]:
    """Inside, this process may read a folder and everything below it, and write nothing there."""
    paths = [folder, *folder.rglob("*")]
    before = {path: path.stat().st_mode for path in paths}
    for path, mode in before.items():
        path.chmod(mode & ~0o222)
    user = os.geteuid()
    if user == 0:  # root may write everywhere
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode in before.items():
            path.chmod(mode)


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_complete_cache_is_used_where_nothing_can_be_written(cache, source, lm, folder) -> None:
    before = listing(folder)
    with reading_only(folder):
        assert prepare(source, lm, folder / "cache", workers=0) == cache
        examples = list(ShardedExamples(cache.files("train"), cache.fingerprint))
        check_cache(cache)
        mend_cache(cache)
    assert [e.id for e in examples] == [f"train-{i}" for i in range(6)]
    assert listing(folder) == before


def without(path: Path) -> None:
    path.unlink()


def secret(path: Path) -> None:
    path.chmod(0o000 if os.geteuid() else 0o600)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-00001.safetensors", without, r"cache .* is not complete and cannot be written \(Permission denied\)"),
        ("splits.json", without, r"cache .* is not complete and cannot be written \(Permission denied\)"),
        ("train-00001.safetensors", secret, r"train-00001\.safetensors cannot be read .* ask its owner"),
        ("splits.json", secret, r"splits\.json cannot be read \(Permission denied\): ask its owner"),
    ],
)
def test_a_cache_without_rights_is_told_in_one_line(
    cache, source, lm, folder, name: str, change: Callable[[Path], None], message: str
) -> None:
    change(cache.folder / name)
    with reading_only(folder), pytest.raises(ValueError, match=message) as caught:
        prepare(source, lm, folder / "cache", workers=0)
    assert "--data.cache_dir" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_new_cache_in_a_folder_without_rights_is_told_in_one_line(source, lm, folder) -> None:
    with reading_only(folder), pytest.raises(ValueError, match=r"cannot be written \(Permission denied\): set --data"):
        prepare(source, lm, folder / "new" / "cache", workers=0)


def test_a_damaged_shard_that_cannot_be_removed_is_named(cache, folder) -> None:
    path = damage_row(cache)
    with reading_only(folder), pytest.raises(ValueError, match=rf"{path} is damaged and cannot be removed"):
        mend_cache(cache)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_all_files_have_the_rights_that_the_umask_gives(source, lm, folder, tmp_path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        prepare(source, lm, folder / "cache", workers=0)
        lm.save_pretrained(folder / "release")
        save_voice(lm_voice(), folder / "cache" / "voice.safetensors", None)
    finally:
        os.umask(before)
    files = [path for name in ("cache", "release", "memory") for path in (folder / name).rglob("*") if path.is_file()]
    assert len(files) > 9
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in files} == {path.name: oct(mode) for path in files}


def lm_voice():
    from wand.codecs.reference import Reference

    return Reference(torch.zeros(3, 5, dtype=torch.long))
