"""Shards that are copied from a cache at a URL: the same bytes, each once, and never a damaged one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest

from tests.conftest import TINY
from tests.data.test_datamodule import Coded, Listener, fit
from wand.backbones.encodec_lm import EncodecLM
from wand.data import prepare as preparation
from wand.data.datamodule import SpeechDataModule
from wand.data.prepare import ShardCache, copy_shards, prepare
from wand.data.sources.source import SPLITS, SpeechCodes, Utterance
from wand.files.turns import Task


class Unread(Coded):
    """A corpus that may be listed, but not read."""

    def codes(self, utterance: Utterance) -> SpeechCodes:
        raise AssertionError("the corpus was read")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "UTTERANCES_PER_SHARD", 5)


@pytest.fixture
def lm() -> EncodecLM:
    return EncodecLM(architecture=TINY)


@pytest.fixture
def made(lm: EncodecLM, tmp_path: Path) -> ShardCache:
    return prepare(Coded(), lm, tmp_path / "made", workers=0)


@pytest.fixture
def url(made: ShardCache) -> Iterator[str]:
    """A cache in memory, which only fsspec can open."""
    memory = fsspec.filesystem("memory")
    memory.put(str(made.folder), f"/bucket/{made.fingerprint}", recursive=True)
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "refused.jsonl"}


def test_a_fit_trains_on_copies_as_on_the_shards(lm, made, url, tmp_path):
    modules = []
    for settings in ({"cache_dir": tmp_path / "made"}, {"cache_dir": tmp_path / "here", "copy_from": url}):
        source = Unread() if "copy_from" in settings else Coded()
        modules.append(Listener(lm))
        fit(modules[-1], SpeechDataModule(source, workers=0, batch_size=4, **settings))
    assert shards(tmp_path / "here" / made.fingerprint) == shards(made.folder)
    assert [one.tolist() for one in modules[0].given] == [one.tolist() for one in modules[1].given]


def test_what_is_there_is_not_copied_again(lm, made, tmp_path):
    data = SpeechDataModule(Unread(), cache_dir=tmp_path / "here", copy_from=f"file://{tmp_path}/made/")
    cache = data.prepare_for(lm, thorough=True)
    before = {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    damaged = cache.shard("train", 2)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    data.prepare_for(lm, thorough=True)
    after = {path.name: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {damaged.name, "splits.json"}
    assert shards(cache.folder) == shards(made.folder)
    made.folder.rename(tmp_path / "gone")
    assert data.prepare_for(lm) == cache


def test_a_copy_that_was_cut_short_is_not_used_and_goes_on(made, url, tmp_path):
    here = ShardCache(tmp_path / "here" / made.fingerprint, made.fingerprint)
    memory = fsspec.filesystem("memory")
    name = f"/bucket/{made.fingerprint}/train-00003.safetensors"
    whole = memory.cat_file(name)
    memory.pipe_file(name, whole[:-1])
    with pytest.raises(ValueError, match=r"^shard memory://bucket/\w+/train-00003.safetensors is damaged: copy it"):
        copy_shards(here, url)
    assert {path.name for path in here.folder.iterdir()} == {f"train-0000{i}.safetensors" for i in range(3)} | {
        ".train-00003.lock"
    }
    assert not here.is_finished(["train"])
    memory.pipe_file(name, whole)
    copy_shards(here, url)
    assert shards(here.folder) == shards(made.folder)
    assert here.is_complete(SPLITS)


def test_what_cannot_be_copied_is_told_in_one_line(lm, made, url, tmp_path):
    here = ShardCache(tmp_path / "here" / made.fingerprint, made.fingerprint)
    cases = {
        "nope://bucket": "nope://bucket/.* cannot be opened: Protocol not known: nope",
        "memory://other": f"there is no memory://other/{made.fingerprint}/splits.json",
        f"file://{tmp_path}/none": f"there is no file://{tmp_path}/none/{made.fingerprint}/splits.json",
    }
    if find_spec("s3fs") is None:
        cases["s3://bucket"] = "s3://bucket/.* cannot be opened: Install s3fs to access S3"
    for wrong, message in cases.items():
        with pytest.raises(ValueError, match=f"^{message}$"):
            copy_shards(here, wrong)
    prepare(Coded(fingerprint="part"), lm, tmp_path / "made", workers=0, splits=["test"])
    part = preparation.shard_cache(Coded(fingerprint="part"), lm, tmp_path / "here")
    with pytest.raises(ValueError, match=r"no finished preparation of train in file://.*: finish it"):
        copy_shards(part, f"file://{tmp_path}/made")
    data = SpeechDataModule(Coded(), cache_dir=tmp_path / "here", copy_from=url)
    with pytest.raises(ValueError, match=r"--shard 1/2 makes shards, and data.copy_from copies all"):
        data.prepare_for(lm, task=Task(1, 2))
    assert not here.folder.exists()
