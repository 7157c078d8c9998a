"""A few cases of every group. `python -m tests.fuzz` runs thousands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.groups import GROUPS
from tests.fuzz.harness import REFUSED, RIGHT, run_case

SEED = 0
# Cases in the test suite; of every two, one is valid.
CASES = {"manifests": 40, "lists": 60, "sounds": 60, "texts": 60, "sampling": 60, "artefacts": 40, "workers": 20,
         "options": 60, "config": 24, "speech": 40}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_cases(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    group = GROUPS[name](tmp_path)
    outcomes = [run_case(group, SEED, index) for index in range(CASES[name])]
    wrong = [f"--case {one.index}: {one.kind}: {one.what}: {one.detail}" for one in outcomes if one.detail]
    assert not wrong
    assert [one.kind for one in outcomes] == [REFUSED if one.index % 2 else RIGHT for one in outcomes]
