"""Benchmarks run at tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import ablations, data
from tests.workplace import Workplace
from wand.cli.configs import shipped_configs
from wand.data.shards import ShardedExamples


def table(cer: float, share: float) -> dict:
    rows = [
        {"system": {"name": name}, "speech": {"cer": rate, "wer": rate}, "agreement": 0.5, "kl": 0.1}
        for name, rate in (("teacher", 0.1), ("untrained", 0.5), ("student", cer))
    ]
    return {"recogniser": "embedded", "rows": rows, "won_back": {"cer": {"share": share, "interval": [0, 1]}}}


def test_an_ablation_is_a_shipped_config_that_changes_one_thing() -> None:
    overlays = {overlay for overlay in ablations.VARIANTS.values() if overlay is not None}
    assert overlays <= set(shipped_configs())


def test_what_is_finished_is_not_done_again(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def wand(*arguments: str) -> None:
        asked.append(arguments)
        if arguments[0] == "fit":
            name = next(a for a in arguments if a.startswith("--name=")).removeprefix("--name=")
            (Path("runs") / name / "closing").mkdir(parents=True)
        else:
            (Path(arguments[2]) / "test").mkdir(exist_ok=True)
            (Path(arguments[2]) / "test" / "table.json").write_text(json.dumps(table(0.2, 0.75)))

    monkeypatch.setattr(ablations, "wand", wand)
    made = ablations.measure("quickstart", "no curriculum", 1, ["--trainer.max_steps=3"])
    assert [arguments[0] for arguments in asked] == ["fit", "test"]
    assert asked[0][1:5] == ("--config", "quickstart", "--config", "no-curriculum")
    assert {"--seed_everything=1", "--data.seed=1", "--trainer.max_steps=3"} <= set(asked[0])
    assert ablations.measure("quickstart", "no curriculum", 1, []) == made
    assert len(asked) == 2
    ablations.measure("quickstart", "no curriculum", 1, [], "tests.recognition.test_named.Loudness:words/loud")
    assert [arguments[0] for arguments in asked[2:]] == ["test"]
    assert "--recogniser=tests.recognition.test_named.Loudness:words/loud" in asked[2]


def test_the_table_has_the_seeds_and_their_mean() -> None:
    text = ablations.to_markdown({"whole method": [table(0.1, 1.0), table(0.2, 0.75)]})
    assert "| teacher | 10.0 | 10.0 | 50.0 | 0.1000 | - |" in text
    assert "| whole method | 15.0 (10.0, 20.0) |" in text
    assert "88 (100, 75) |" in text
    assert "Heard by embedded." in text


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
