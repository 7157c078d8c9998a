"""The benchmark of data at tiny size."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks import data
from wand.data.shards import ShardedExamples


def test_synthetic_utterances_are_written_once_and_measured(tmp_path: Path) -> None:
    cache = data.write_cache(tmp_path, 300)
    before = [path.stat().st_mtime_ns for path in cache.files("train")]
    assert data.write_cache(tmp_path, 300) == cache
    assert [path.stat().st_mtime_ns for path in cache.files("train")] == before
    read = ShardedExamples(cache.files("train"), cache.fingerprint)
    for own, made in zip(read, data.utterances(300), strict=True):
        assert (own.id, own.text) == (made.id, made.text)
        assert torch.equal(own.conditioning["ids"], made.conditioning["ids"])
        assert torch.equal(own.codes, made.codes)
    measured = data.measure(tmp_path, 20)
    assert measured.imports_mib > 0
    header, _, values = data.to_markdown(300, 300 * 1500, measured).splitlines()
    assert values.startswith("| 300 | 1500 |")
    assert header.count("|") == values.count("|")
