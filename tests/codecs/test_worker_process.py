"""The process of a codec worker: its pipes, its log, how it starts and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.codecs.misbehaving import BY_HAND, DESCRIBES, FACTS, WITH_SERVE, gone, group, running, write
from wand.codecs.base import CodecUnavailable
from wand.codecs.worker import WorkerCodec, find_codec
from wand.codecs.worker_process import LOG_HEAD, LOG_TAIL, WorkerLog
from wand.registry import CODECS

RIGHT = list(range(7))
SOUND = (torch.arange(7) / 8).repeat_interleave(100)[None, None]

STDIN = """
import subprocess, sys
from serve import serve

sys.stdout.write("noise without an end of line")

class Codec:
    def __init__(self, settings):
        try:
            self.heard = input("run the custom code? [y/N] ")
        except EOFError:
            self.heard = "nothing"
        subprocess.run([sys.executable, "-c", "print('noise of a child'); input()"], check=False)
    def describe(self):
        return {"sample_rate": 8000, "frame_rate": 80, "num_codebooks": 1, "codebook_size": 9, "needs_reference": False}
    def encode(self, audio, sample_rate):
        raise ValueError(self.heard)

serve(Codec)
"""


def test_upstream_code_neither_reads_requests_nor_writes_answers(tmp_path: Path) -> None:
    codec = WorkerCodec(write(tmp_path, STDIN), sys.executable, "", timeout=60)
    with pytest.raises(ValueError, match="ValueError: nothing"):
        codec.encode(SOUND, 8000)
    codec.close()


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), "600"])
def test_a_time_limit_is_positive(tmp_path: Path, timeout: Any) -> None:
    with pytest.raises(ValueError, match=r"^the timeout of the codec worker \S+ .*: give seconds$"):
        WorkerCodec(write(tmp_path, BY_HAND), sys.executable, "", timeout=timeout)


def test_a_worker_ends_with_its_codec(tmp_path: Path) -> None:
    codec = WorkerCodec(write(tmp_path, BY_HAND), sys.executable, "silent", timeout=30)
    assert codec._process is not None
    process, log = codec._process.process.pid, Path(codec._process.log.name)
    assert group(process) == [process]
    del codec
    assert gone(process)
    assert not log.exists()


ORPHAN = """
import sys
from wand.codecs.worker import WorkerCodec
codec = WorkerCodec(sys.argv[1], sys.executable, "", timeout=600)
print(codec._process.process.pid, flush=True)
codec.ask("sleep")
"""
SLEEPER = DESCRIBES.replace(
    "serve(Codec)", "import time\nCodec.sleep = lambda self: time.sleep(600)\nserve(Codec)"
).replace('settings["release"]', repr(json.dumps(FACTS)))


def test_a_busy_worker_ends_with_a_killed_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN, write(tmp_path, SLEEPER)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        assert running(process)
        parent.kill()
    end = time.monotonic() + 20
    while running(process) and time.monotonic() < end:
        time.sleep(0.1)
    assert not running(process)


def test_one_killer_is_an_item_and_three_are_the_codec(tmp_path: Path) -> None:
    """Preparation goes on after a plain ValueError, and stops at CodecUnavailable."""
    codec = WorkerCodec(write(tmp_path, WITH_SERVE), sys.executable, "", timeout=60)
    right, deadly = torch.zeros(1, 1, 700), torch.full((1, 1, 700), 27.0)  # answers with one array
    kinds = []
    for sound in (deadly, deadly, right, deadly, deadly, deadly):
        try:
            codec.encode(sound, 8000)
            kinds.append("right")
        except ValueError as error:
            kinds.append(type(error).__name__)
    assert kinds == ["ValueError", "ValueError", "right", "ValueError", "ValueError", "CodecUnavailable"]
    # Five logs are kept at most.
    for _ in range(3):
        with pytest.raises(CodecUnavailable):
            codec.encode(deadly, 8000)
    assert len(codec._logs) == 5
    assert all(log.is_file() for log in codec._logs)
    for log in codec._logs:
        log.unlink()


def test_a_fork_starts_its_own_worker(tmp_path: Path) -> None:
    codec = WorkerCodec(write(tmp_path, BY_HAND), sys.executable, "fields in another order", timeout=30)
    assert codec._process is not None
    process = codec._process.process.pid
    child = os.fork()
    if child == 0:
        right = codec.encode(SOUND, 8000).tolist() == [[RIGHT]] and codec._process.process.pid != process
        codec.close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert codec.encode(SOUND, 8000).tolist() == [[RIGHT]]
    assert codec._process.process.pid == process
    codec.close()


def test_a_full_disk_does_not_stop_the_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written to the log."""
    codec = WorkerCodec(write(tmp_path, BY_HAND), sys.executable, "noise of 5 MB", timeout=30)
    assert codec._process is not None
    with open("/dev/full", "wb") as full:
        monkeypatch.setattr(codec._process.log, "_file", full)
        assert codec.encode(SOUND, 8000).tolist() == [[RIGHT]]
        codec.close()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(CodecUnavailable, match=r"its log cannot be written \(No such file"):
        codec.encode(SOUND + 1, 8000)


def test_the_log_keeps_beginning_and_end() -> None:
    rows = [f"{number:09d}\n".encode() for number in range(400_000)]
    for count in (3, 100_000, 110_000, 400_000):
        log = WorkerLog()
        for start in range(0, count, 1000):
            log.add(b"".join(rows[start : min(start + 1000, count)]))
        assert log.last_words() == f"{count - 1:09d}"
        log.close(keep=True)
        kept, whole = Path(log.name).read_bytes(), b"".join(rows[:count])
        Path(log.name).unlink()
        if len(whole) <= LOG_HEAD + LOG_TAIL:
            assert kept == whole
        else:
            assert len(kept) < LOG_HEAD + 2 * LOG_TAIL + 100
            head, _, tail = kept.partition(b"\n... ")
            assert whole.startswith(head)
            assert whole.endswith(tail.partition(b"left out ...\n")[2])
            left_out = int(tail.split()[0])
            assert len(head) + left_out + len(tail.partition(b"left out ...\n")[2]) == len(whole)


def test_the_folder_of_a_worker_hides_no_module() -> None:
    """Python puts the folder of a script first on its path."""
    for name in CODECS:
        found = find_codec(name)
        assert found is not None
        assert {path.name for path in found[1].parent.glob("*.py")} == {"codec_worker.py", "__init__.py"}
