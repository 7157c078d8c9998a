"""Several processes that share a preparation: the same bytes as one, each shard made once, a failed task repeated."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier

import pytest
import torch

from tests.data.test_prepare import Flawed, Tones, _small_shards, codec_folder, damage, lm  # noqa: F401 - fixtures
from wand.backbones.encodec_lm import EncodecLM
from wand.console.interrupt import Interrupted
from wand.data.check import mend_cache
from wand.data.prepare import ShardCache, prepare, shard_cache
from wand.data.sources.source import SPLITS, Utterance
from wand.files.turns import Task


def contents(cache: ShardCache) -> Mapping[str, bytes]:
    """Every file of a cache."""
    return {path.name: path.read_bytes() for path in cache.folder.iterdir()}


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_two_tasks_give_the_files_of_one_run(lm, tmp_path, order, capsys):  # noqa: F811
    whole = contents(prepare(Flawed(), lm, tmp_path / "whole", workers=0, max_seconds=2.0))
    report = capsys.readouterr().out
    asked = []
    for number in order:
        source = Flawed()
        cache = prepare(source, lm, tmp_path / "shared", workers=0, max_seconds=2.0, task=Task(number, 2))
        asked.append(set(source.asked))
        assert cache.is_finished(SPLITS) == (number == order[1])
    assert set(whole) == {*(f"train-0000{i}.safetensors" for i in range(3)), "validation-00000.safetensors",
                          "test-00000.safetensors", "refused.jsonl", "splits.json"}  # fmt: skip
    assert contents(cache) == whole
    assert asked[0].isdisjoint(asked[1])
    assert capsys.readouterr().out.endswith(report)


@dataclass
class Stopped(Tones):
    """A corpus that stops its reader at one utterance."""

    def audio(self, utterance: Utterance) -> torch.Tensor:
        if utterance.id == "validation-1":
            raise Interrupted(15)
        return Tones.audio(self, utterance)


def test_an_array_with_a_failed_and_repeated_task_ends_complete(lm, tmp_path, capsys):  # noqa: F811
    """Of three tasks, the first makes train-0 and validation-0, the second train-1 and test-0, the third train-2."""
    whole = contents(prepare(Tones(), lm, tmp_path / "whole", workers=0))
    shared = tmp_path / "shared"
    with pytest.raises(Interrupted) as stopped:
        prepare(Stopped(), lm, shared, workers=0, task=Task(1, 3))
    assert stopped.value.report.startswith("1 of 5 shards are made and kept in ")
    prepare(Tones(), lm, shared, workers=0, task=Task(2, 3))
    capsys.readouterr()
    cache = prepare(Tones(), lm, shared, workers=0, task=Task(3, 3))
    assert capsys.readouterr().out == (
        f"1 of 5 shards in {cache.folder} are missing, the first is validation-00000.safetensors: the same command "
        f"with --shard 1/3 makes it\n"
    )
    assert not cache.is_finished(SPLITS)
    again = Tones()
    prepare(again, lm, shared, workers=0, task=Task(1, 3))
    assert again.asked == ["validation-0", "validation-1"]
    assert contents(cache) == whole


def test_a_report_that_was_lost_is_given_again_by_any_task(lm, tmp_path, capsys):  # noqa: F811
    cache = prepare(Tones(), lm, tmp_path, workers=0)
    whole, report = contents(cache), capsys.readouterr().out
    for name in ("splits.json", "refused.jsonl"):
        (cache.folder / name).unlink()
    source = Tones()
    prepare(source, lm, tmp_path, workers=0, task=Task(4, 9))
    assert (contents(cache), capsys.readouterr().out, source.asked) == (whole, report, [])
    prepare(source, lm, tmp_path, workers=0, task=Task(9, 9))  # has no shard
    assert (contents(cache), capsys.readouterr().out, source.asked) == (whole, "", [])


def test_a_task_mends_its_own_shards(lm, tmp_path):  # noqa: F811
    cache = prepare(Tones(), lm, tmp_path, workers=0)
    damaged = [cache.shard("train", 0), cache.shard("train", 1)]
    for path in damaged:
        damage(path, -1)
    mend_cache(cache, task=Task(2, 2))
    assert [path.is_file() for path in damaged] == [True, False]


def test_of_a_corpus_that_cannot_be_used_no_shard_stays(lm, tmp_path):  # noqa: F811
    prepare(Tones(text="naïve"), lm, tmp_path, workers=0, task=Task(1, 2))
    for _ in range(2):  # the second time as the first
        with pytest.raises(ValueError, match=r"no utterance of train can be used .* 'ï'"):
            prepare(Tones(text="naïve"), lm, tmp_path, workers=0, task=Task(2, 2))
        assert list(tmp_path.glob("*/*.safetensors")) == []
        prepare(Tones(text="naïve"), lm, tmp_path, workers=0, task=Task(1, 2))


@dataclass
class Met(Tones):
    """A corpus for two preparations, which begin to read at the same time."""

    meeting: Barrier = field(default_factory=lambda: Barrier(2, timeout=60))
    met: list[threading.Thread] = field(default_factory=list)

    def audio(self, utterance: Utterance) -> torch.Tensor:
        if threading.current_thread() not in self.met:
            self.met.append(threading.current_thread())
            self.meeting.wait()
        return Tones.audio(self, utterance)


def test_two_preparations_at_once_make_every_shard_once(lm, tmp_path):  # noqa: F811
    """Each opens the files of the locks anew, so that threads exclude each other as processes do."""
    whole, source = Tones(), Met()
    expected = contents(prepare(whole, lm, tmp_path / "whole", workers=0))
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(prepare, source, lm, tmp_path / "shared", workers=0) for _ in range(2)]
        first, second = (one.result() for one in made)
    assert first == second
    assert contents(first) == expected
    assert sorted(source.asked) == sorted(whole.asked)
    assert len(source.met) == 2


HOLDER = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_shard_that_another_process_makes_comes_last_and_is_made_when_that_one_ends(
    lm: EncodecLM,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = shard_cache(Tones(), lm, tmp_path)
    cache.folder.mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cache.folder / ".train-00000.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    told: list[str] = []

    def on_told(text: str, **_: object) -> None:
        told.append(text)
        holder.kill()

    monkeypatch.setattr("wand.files.turns.print", on_told, raising=False)
    source = Tones()
    assert prepare(source, lm, tmp_path, workers=0) == cache
    assert told[0] == f"waiting for another process that prepares {cache.folder}"
    assert source.asked[-2:] == ["train-0", "train-1"]
    assert len(source.asked) == 8
    holder.wait()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3/2", r"--shard 3/2: the tasks are 1/2 to 2/2"),
        ("0/2", r"--shard 0/2: the tasks are 1/2 to 2/2"),
        *((text, "write the task and the number of tasks, such as 2/8") for text in ("", "2", "a/b", "1/0", "-1/2")),
    ],
)
def test_tasks_that_do_not_exist(text, message):
    with pytest.raises(ValueError, match=re.escape(f"--shard {text}")) as caught:
        Task.parse(text)
    assert message in str(caught.value)


def test_every_shard_has_one_task():
    shards = list(range(11))
    for count in (1, 2, 5, 11, 20):
        tasks = [Task.parse(f"{number}/{count}") for number in range(1, count + 1)]
        assert sorted(shard for task in tasks for shard in task.own(shards)) == shards
        assert all(shard in task.that_makes(shard).own(shards) for shard in shards for task in tasks)
