"""Files are written as a whole or not at all."""

from __future__ import annotations

import ast
import errno
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.test_rooms import MODULES
from wand.files import writing
from wand.files.audio import write_audio
from wand.files.names import file_name
from wand.files.weights import write_safetensors, write_torch
from wand.files.writing import remove_partial_files, replacing, write_bytes, write_text

WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_text(path, "new"),
    "bytes": lambda path: write_bytes(path, b"new"),
    "torch": lambda path: write_torch({"a": torch.ones(3)}, path),
    "safetensors": lambda path: write_safetensors({"a": torch.ones(3)}, path),
    "sound": lambda path: write_audio(path, torch.zeros(100), 8000),
}
# These write as a whole, or write inside `replacing`.
OWN_WRITERS = {"write_text", "write_bytes", "savefig", "save_file", "write"}


@pytest.mark.parametrize("name", WRITERS)
def test_what_fails_before_the_rename_leaves_the_old_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "target.wav"
    path.write_bytes(b"old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "flush", full)
    with pytest.raises(ValueError, match=r"no space left for .*target.wav"):
        WRITERS[name](path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    WRITERS[name](path)
    assert path.read_bytes() != b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", WRITERS)
def test_umask_decides_who_may_read_and_folders_are_made(name: str, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        WRITERS[name](tmp_path / "new" / "target.wav")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "target.wav").stat().st_mode & 0o777 == 0o640


def test_an_interruption_removes_the_unfinished_file(tmp_path: Path) -> None:
    def stopped() -> None:
        with replacing(tmp_path / "target") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_two_threads_write_one_file_and_the_last_one_wins(tmp_path: Path) -> None:
    target, begun, written = tmp_path / "target", threading.Event(), threading.Event()

    def slow() -> None:
        with replacing(target) as partial:
            partial.write_text("slow")
            begun.set()
            assert written.wait(10)

    thread = threading.Thread(target=slow)
    thread.start()
    assert begun.wait(10)
    write_text(target, "fast")
    assert target.read_text() == "fast"
    written.set()
    thread.join()
    assert target.read_text() == "slow"
    assert list(tmp_path.iterdir()) == [target]


def test_links_devices_and_long_names(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "real").read_text() == "new"
    write_text("/dev/null", "gone")
    assert not Path("/dev/null").is_file()
    longest = tmp_path / ("é" * 127)
    write_text(longest, "new")
    assert longest.read_text() == "new"


def test_what_cannot_be_written_is_one_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/below.* cannot be written \(Not a directory\)|File exists"):
        write_text(tmp_path / "file" / "below", "new")
    with pytest.raises(ValueError, match="it is a folder"):
        write_text(tmp_path, "new")


def test_only_unfinished_files_of_ended_processes_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = socket.gethostname()
    names = {
        f".last.ckpt.0000.{host}@{ended.pid}.partial": False,
        f".last.ckpt.0000.{host}@{os.getppid()}.partial": True,
        f".last.ckpt.0000.elsewhere@{ended.pid}.partial": True,
        "last.ckpt": True,
        "mine.partial": True,
    }
    for name in names:
        (tmp_path / name).write_text("")
    remove_partial_files(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_name_of_a_file_is_no_folder() -> None:
    made = [file_name(name) for name in ("", ".", "..", "a.b", "a/b")]
    assert [Path("sounds", name).resolve().parent.name for name in made] == ["sounds"] * 5
    assert made[3] == "a.b"
    assert len(set(made)) == 5


def test_no_file_of_wand_is_written_in_another_way() -> None:
    found = []
    for module, path in MODULES.items():
        if module.startswith("wand.files") or "worker" in module:
            continue
        inside = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.With) and "replacing(" in ast.unparse(node.items[0]):
                inside |= {id(child) for child in ast.walk(node)}
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and id(node) not in inside:
                name = ast.unparse(node.func)
                if node.func.attr in OWN_WRITERS - {"write"} or name in ("torch.save", "soundfile.write"):
                    found.append((module, name))
    assert found == []
