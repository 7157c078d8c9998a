"""Checkpoints are written as a whole, and damaged ones are skipped by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from wand.runs.checkpoint_io import WholeCheckpoints
from wand.runs.checkpoints import find_checkpoint
from wand.runs.export import _chosen

# What every checkpoint of wand has.
DESCRIBED: dict[str, Any] = {
    "state_dict": {},
    "global_step": 1,
    "wand": {"pretrained_digest": None},
    "hyper_parameters": {
        "pretrained": None,
        "window": 8,
        "backbone": {"class_path": "backbones.EncodecLM", "architecture": {}},
    },
}


class FailsHalfWay:
    """Cannot be stored: the writer fails after it has begun."""

    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose last.ckpt is newer than its best.ckpt."""
    folder = tmp_path / "runs" / "one"
    for age, name in ((100, "best"), (50, "last")):
        path = folder / "checkpoints" / f"{name}.ckpt"
        WholeCheckpoints().save_checkpoint({"weights": torch.arange(10_000), "name": name, **DESCRIBED}, path)
        when = path.stat().st_mtime - age
        os.utime(path, (when, when))
    return folder


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    times = (path.stat().st_atime, path.stat().st_mtime)
    path.write_bytes({"empty": b"", "cut": content[: len(content) * 2 // 3], "zeros": bytes(len(content))}[kind])
    os.utime(path, times)


def own_memory() -> int:
    """Memory of this process that no file backs, in KiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1])


def test_a_checkpoint_is_read_without_a_copy_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    written = {"state_dict": {"w": torch.arange(2**24, dtype=torch.float32)}}  # 64 MiB
    WholeCheckpoints().save_checkpoint(written, path)
    before = own_memory()
    read = WholeCheckpoints().load_checkpoint(path, weights_only=True)
    assert own_memory() - before < 2**14
    assert torch.equal(read["state_dict"]["w"], written["state_dict"]["w"])
    assert own_memory() - before < 2**15


@pytest.mark.parametrize("kind", ["empty", "cut", "zeros"])
def test_the_newest_complete_checkpoint_is_taken(
    run: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    assert find_checkpoint(run) == last
    assert find_checkpoint("last", run.parent) == last
    assert capsys.readouterr().err == ""
    damage(last, kind)
    assert find_checkpoint(run) == best
    assert find_checkpoint("last", run.parent) == best
    (line,) = capsys.readouterr().err.splitlines()
    assert str(last) in line
    assert "skipped" in line
    damage(best, kind)
    with pytest.raises(ValueError, match="no checkpoint"):
        find_checkpoint(run)


@pytest.mark.parametrize("index", [b"", b"\x80\x04\x95\x10\x00"])
def test_a_sharded_checkpoint_with_a_cut_index_is_skipped(run: Path, index: bytes) -> None:
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    last.unlink()
    last.mkdir()
    torch.save({}, last / "meta.pt")
    (last / ".metadata").write_bytes(index)
    assert find_checkpoint(run) == best


def test_a_cut_best_checkpoint_is_not_exported(run: Path) -> None:
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    assert _chosen(run, run / "new") == best
    damage(best, "cut")
    assert _chosen(run, run / "new") == last


def test_an_unfinished_file_is_no_checkpoint(run: Path) -> None:
    (run / "checkpoints" / ".last.ckpt.0000.host@1.partial").write_bytes(b"")
    assert find_checkpoint(run) == run / "checkpoints" / "last.ckpt"


def test_a_full_disk_leaves_the_old_checkpoint(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with pytest.raises(ValueError, match=r"no space left for .*last\.ckpt"):
        WholeCheckpoints().save_checkpoint({"weights": torch.zeros(10_000), "more": FailsHalfWay()}, last)
    assert last.read_bytes() == before
    assert len(list(last.parent.iterdir())) == 2


def test_nothing_is_written_outside_the_folder_of_the_checkpoint(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "does not exist"))  # Lightning's own writer needs it
    last = run / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"name": "new"}, last)
    assert torch.load(last, weights_only=True) == {"name": "new"}
