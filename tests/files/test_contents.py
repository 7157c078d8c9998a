"""Digests of contents: right after any change, and no file is read twice without one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from wand.files import contents
from wand.files.contents import content_digests


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAND_CACHE", str(tmp_path / "memory"))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(600):
        (folder / f"{i}.wav").write_bytes(b"%06d" % i)
    return sorted(folder.iterdir())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read. The files of a test count as settled."""
    names: list[str] = []
    digest = contents._digest
    monkeypatch.setattr(contents, "_digest", lambda name: names.append(name) or digest(name))
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    return names


def truth(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def test_digests_are_those_of_the_contents(files, read):
    assert content_digests(files) == {path: truth(path) for path in files}
    assert sorted(read) == [str(path) for path in files]
    read.clear()
    assert content_digests(reversed(files)) == {path: truth(path) for path in files}
    assert read == []
    assert content_digests([]) == {}


def touch_back(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewritten(path: Path) -> None:
    path.write_bytes(b"999999")


def rewritten_with_the_old_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"999999")
    touch_back(path, before)


def replaced_with_the_old_time(path: Path) -> None:
    before = path.stat()
    path.with_suffix(".new").write_bytes(b"999999")
    path.with_suffix(".new").replace(path)
    touch_back(path, before)


def written_in_place_with_the_old_time(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"9")
    touch_back(path, before)


def linked_to_another(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "5.wav")


@pytest.mark.parametrize(
    "change",
    [
        rewritten,
        rewritten_with_the_old_time,
        replaced_with_the_old_time,
        written_in_place_with_the_old_time,
        linked_to_another,
    ],
)
def test_a_changed_file_is_noticed(files, read, change):
    before = content_digests(files)
    read.clear()
    changed = files[300]
    change(changed)
    after = content_digests(files)
    assert {path for path in files if before[path] != after[path]} == {changed}
    assert after[changed] == truth(changed)
    assert read == [str(changed)]


def test_a_file_that_has_just_been_written_is_read_again(files, read, monkeypatch):
    """A further change within the resolution of the clock would leave the same times behind."""
    monkeypatch.setattr(contents, "SETTLED_NS", 10**12)
    content_digests(files)
    read.clear()
    content_digests(files)
    assert len(read) == len(files)


def test_what_is_missing_or_no_file_has_no_digest(files, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    odd = [tmp_path / "none", tmp_path, tmp_path / "pipe", tmp_path / ("x" * 5000), Path("a\0b"), Path("\ud800")]
    found = content_digests([files[0], *odd])
    assert found == {files[0]: truth(files[0]), **dict.fromkeys(odd)}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": [1]}', b"\xff"])
def test_a_damaged_memory_is_written_again(files, read, tmp_path, damage):
    content_digests(files)
    (memory,) = (tmp_path / "memory" / "contents").iterdir()
    whole = memory.read_bytes()
    memory.write_bytes(damage)
    assert content_digests(files) == {path: truth(path) for path in files}
    assert memory.read_bytes() == whole
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]


def test_two_lists_of_one_folder_share_their_memory(files, read):
    content_digests(files[:300])
    content_digests(files[300:])
    read.clear()
    content_digests(files)
    assert read == []


def test_a_memory_that_cannot_be_written_is_told_once_and_does_no_harm(files, read, tmp_path, monkeypatch):
    (tmp_path / "memory").write_text("")
    with pytest.warns(UserWarning, match=r"cannot be remembered.*Not a directory.*set WAND_CACHE") as told:
        assert content_digests(files) == {path: truth(path) for path in files}
    assert len(told) == 1
