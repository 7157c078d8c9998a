"""Rows do not depend on shards, on interruptions, or on who is spoken in the same group."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.evaluation.study.tiny_study import make_study, run_shard
from tests.processes import start
from wand.console.interrupt import Interrupted, handling_signals
from wand.evaluation.study import study as module
from wand.evaluation.study.description import describe, settle
from wand.evaluation.study.rows import Errors, Key, append_rows, drop_broken_line, read_rows
from wand.files.audio import read_audio
from wand.files.turns import ALL, Task
from wand.metrics.words import errors

FIRST = "rows-1-of-1.jsonl"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums of several threads may differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, _one_thread: None) -> Path:
    """A study that was made in one go."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    return folder


def finish(folder: Path, task: Task = ALL) -> bytes:
    study = make_study(folder)
    study.run(task)
    rows = study.finished()
    assert not study.missing(rows)
    study.write(rows)
    return (folder / "rows.jsonl").read_bytes()


def test_every_system_speaks_every_sentence_with_every_seed(whole: Path) -> None:
    rows = read_rows(whole / "rows.jsonl")
    expected = [Key(f"u{i}", "recorded", 0) for i in range(4)]  # the last sentence has no recording
    expected += [Key(f"u{i}", s, n) for i in range(5) for s in ("teacher", "student") for n in (0, 3)]
    assert [row.key for row in rows] == sorted(expected)
    assert len({row.text for row in rows}) == 5
    for row in rows:
        assert row.errors["embedded"] == Errors(*errors(row.heard["embedded"], row.text))
        assert row.errors["loud"] == Errors(*errors(row.heard["loud"], row.text))
        assert row.heard["loud"] == ("loud" if row.seconds else "")
        assert (row.recorded_seconds is None) == (row.id == "u4") == (row.metrics["duration"] is None)
        if row.recorded_seconds:
            assert row.metrics["duration"] == pytest.approx(row.seconds / row.recorded_seconds)
            assert row.metrics["extra_seconds"] == pytest.approx(row.seconds - row.recorded_seconds, abs=0.05)
        else:
            assert row.metrics["early"] is None
            assert row.seconds <= 0.5
            assert row.metrics["no_stop"] == 100 * (row.ended in ("length bound", "silence"))
        assert row.metrics["loop"] == 100 * (row.ended == "loop")
    different = {(row.system, row.seed): row.heard["embedded"] for row in rows if row.id == "u1"}
    assert len({*different.values()}) == 5


def test_the_sounds_of_the_chosen_sentences_are_kept_for_the_first_seed(whole: Path) -> None:
    rows = read_rows(whole / "rows.jsonl")
    named = {row.key: row.sound for row in rows if row.sound is not None}
    assert {key.id for key in named} == {"u0", "u2"}
    assert {key.seed for key in named} == {0}
    assert {*named.values()} == {f"sounds/{path.name}" for path in (whole / "sounds").iterdir()}
    seconds = {row.key: row.seconds for row in rows}
    for key, name in named.items():
        assert len(read_audio(whole / name, 16_000)) == pytest.approx(16_000 * seconds[key], abs=400)


@pytest.mark.parametrize("task", [Task(2, 2)])
def test_shards_make_the_same_rows(whole: Path, tmp_path: Path, task: Task) -> None:
    study = make_study(tmp_path)
    study.run(task)
    assert 0 < study.missing(study.finished()) < len(study.all_keys(study.groups))
    for number in range(1, task.count + 1):
        study.run(Task(number, task.count))
    assert finish(tmp_path) == (whole / "rows.jsonl").read_bytes()  # the last one has nothing left to speak
    assert not (tmp_path / FIRST).exists()


def test_a_file_may_end_anywhere(whole: Path, tmp_path: Path) -> None:
    content = (whole / FIRST).read_bytes()
    rows = read_rows(whole / FIRST)
    file = tmp_path / FIRST
    for size in range(0, len(content), 61):
        file.write_bytes(content[:size])
        complete = content[:size].count(b"\n")
        if size % 5 == 0:
            assert read_rows(file) == rows[:complete]
        drop_broken_line(file)
        assert file.read_bytes() == b"".join(content.splitlines(keepends=True)[:complete])
    append_rows(file, rows[complete:])
    assert file.read_bytes() == content


@pytest.mark.parametrize("seed", range(2))
def test_a_study_that_was_cut_off_anywhere_goes_on(whole: Path, tmp_path: Path, seed: int) -> None:
    content = (whole / FIRST).read_bytes()
    size = random.Random(seed).randrange(len(content) // 2, len(content))
    (tmp_path / FIRST).write_bytes(content[:size])
    assert finish(tmp_path) == (whole / "rows.jsonl").read_bytes()
    assert (tmp_path / FIRST).read_bytes() == content


def test_a_killed_process_loses_at_most_what_it_was_speaking(whole: Path, tmp_path: Path) -> None:
    (process,) = start(run_shard, [tmp_path], [{}], tmp_path / "log")
    file = tmp_path / FIRST
    limit = time.monotonic() + 60
    while not (file.is_file() and file.stat().st_size) and process.is_alive() and time.monotonic() < limit:
        time.sleep(0.01)
    with pytest.raises(ValueError, match="another process makes"):
        make_study(tmp_path).run(ALL)
    process.kill()
    process.join()
    assert file.stat().st_size, (tmp_path / "log/0.txt").read_text()
    assert finish(tmp_path) == (whole / "rows.jsonl").read_bytes()


def test_a_signal_stops_it_with_a_report(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def append(file: Path, rows: list) -> None:
        append_rows(file, rows)
        written.extend(rows)
        if len(written) > 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(module, "append_rows", append)
    with handling_signals(), pytest.raises(Interrupted) as stopped:
        make_study(tmp_path).run(ALL)
    monkeypatch.undo()
    assert stopped.value.report == f"{len(written)} of 24 takes are kept in {tmp_path}; the same command goes on"
    assert finish(tmp_path) == (whole / "rows.jsonl").read_bytes()


def test_a_row_does_not_depend_on_its_group(whole: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path, group=5, seeds=[3])
    study.run(ALL)
    expected = {row.key: row for row in read_rows(whole / "rows.jsonl")}
    for key, row in study.finished().items():
        known = expected[key]
        assert (row.heard, row.ended, row.seconds) == (known.heard, known.ended, known.seconds)
        assert row.metrics == pytest.approx(known.metrics, abs=1e-3)


def test_other_weights_of_a_recogniser_or_metric_are_another_study(tmp_path: Path) -> None:
    weights, model = tmp_path / "large.bin", tmp_path / "model"
    weights.write_bytes(b"one")
    (model / "deep").mkdir(parents=True)
    (model / "deep" / "weights.bin").write_bytes(b"one")
    study = make_study(tmp_path / "study")
    names = ["embedded", f"my_package.Ear:{weights}"], ["loop", f"similarity:{model}"]
    settle(describe(study, *names), study.folder)
    settle(describe(study, *names), study.folder)
    weights.write_bytes(b"two")
    with pytest.raises(ValueError, match=r"has another study: its recognisers is 'embedded, my_package\.Ear:"):
        settle(describe(study, *names), study.folder)
    weights.write_bytes(b"one")
    (model / "deep" / "weights.bin").write_bytes(b"two")
    with pytest.raises(ValueError, match="has another study: its metrics is 'loop, similarity:"):
        settle(describe(study, *names), study.folder)
    (model / "deep" / "weights.bin").write_bytes(b"one")
    settle(describe(study, *names), study.folder)
    with pytest.raises(ValueError, match="has another study: its version of wand is "):
        settle(replace(made := describe(study, *names), made_of=made.made_of | {"version of wand": "0"}), study.folder)


def test_a_damaged_row_is_named(whole: Path, tmp_path: Path) -> None:
    content = (whole / FIRST).read_bytes().splitlines(keepends=True)
    for broken in (b"\0\0\0\n", b'{"id": 3}\n', content[0].replace(b'"words"', b'"werds"')):
        (tmp_path / FIRST).write_bytes(b"".join([*content[:2], broken, *content[2:]]))
        with pytest.raises(ValueError, match=rf"{FIRST}, line 3") as error:
            make_study(tmp_path).run(ALL)
        assert "\n" not in str(error.value)
