"""Sharded checkpoints: written as a whole, read without running code, checked like those of one file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from wand.files.writing import put_in_place, remove_partial_files
from wand.runs.checkpoint_io import WholeCheckpoints
from wand.runs.checkpoints import find_checkpoint, read_checkpoint
from wand.runs.sharded import is_sharded, write_parts

CHECKPOINT: dict[str, Any] = {
    "state_dict": {"backbone.w": torch.arange(12.0).view(3, 4), "backbone.ids": torch.arange(3)},
    "optimizer_states": [
        {
            "state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.ones(3, 4)}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}],
        }
    ],
    "global_step": 2,
    "hyper_parameters": {
        "window": 8,
        "pretrained": None,
        "backbone": {"class_path": "wand.backbones.encodec_lm.EncodecLM", "architecture": {}},
    },
    "wand": {"pretrained_digest": None},
}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt"
    folder.parent.mkdir(parents=True)
    write_parts(CHECKPOINT, folder, first=True)
    return folder


pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def test_it_is_found_and_read_like_a_file(sharded: Path) -> None:
    assert find_checkpoint(sharded.parent.parent) == find_checkpoint(sharded) == sharded
    assert equal(read_checkpoint(sharded), CHECKPOINT)
    assert equal(WholeCheckpoints().load_checkpoint(sharded), CHECKPOINT)
    assert read_checkpoint(sharded, whole=False)["state_dict"]["backbone.w"].is_meta


def test_an_index_that_names_code_runs_none(sharded: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    (sharded / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"last.ckpt is damaged, or not a checkpoint of wand: .*mkdir"):
        read_checkpoint(sharded)
    assert not (tmp_path / "ran").exists()


def test_a_part_that_is_cut_off_is_refused(sharded: Path) -> None:
    (part,) = sharded.glob("*.distcp")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"damaged.*{part.name} is missing or cut off"):
        read_checkpoint(sharded, whole=False)
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        find_checkpoint(sharded.parent.parent)


def test_the_older_one_is_whole_at_any_moment(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = sharded.with_name("new")
    write_parts({**CHECKPOINT, "global_step": 4}, new, first=True)
    with monkeypatch.context() as patch:
        real = os.rename
        patch.setattr(os, "rename", lambda a, b: real(a, b) if a == sharded else pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            put_in_place(new, sharded)
    assert read_checkpoint(sharded.parent.parent)["global_step"] == 2
    put_in_place(new, sharded)
    assert read_checkpoint(sharded.parent.parent)["global_step"] == 4
    assert [path.name for path in sharded.parent.iterdir()] == ["last.ckpt"]


def test_a_file_replaces_a_folder(sharded: Path) -> None:
    WholeCheckpoints().save_checkpoint({**CHECKPOINT, "global_step": 6}, sharded)
    assert sharded.is_file()
    assert not is_sharded(sharded)
    assert read_checkpoint(sharded)["global_step"] == 6


def test_unfinished_folders_are_removed(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wand.files import writing

    partial = writing.partial_of(sharded)
    write_parts(CHECKPOINT, partial, first=False)
    remove_partial_files(sharded.parent)
    assert not partial.exists()
    assert sharded.exists()
