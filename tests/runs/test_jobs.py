"""Jobs that start again find the run that they began."""

from __future__ import annotations

from pathlib import Path

import pytest

from wand.runs.jobs import record_job, run_of_job


@pytest.mark.parametrize(
    ("variables", "again"),
    [
        ({"WAND_JOB": "mine"}, {}),
        ({"SLURM_JOB_ID": "7"}, {"SLURM_RESTART_COUNT": "1"}),
        ({"WAND_JOB": "mine", "SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "8"}),
    ],
)
def test_a_job_that_starts_again_finds_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], again: dict[str, str]
) -> None:
    for name in ("WAND_JOB", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("one", "parts/two"):
        (tmp_path / name).mkdir(parents=True)
    record_job(tmp_path / "one", ["--config", "quickstart"])
    assert not list((tmp_path / "one").iterdir())  # no job
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run_of_job(["--config", "quickstart"], tmp_path) is None
    record_job(tmp_path / "parts/two", ["--config", "quickstart"])
    for name, value in again.items():
        monkeypatch.setenv(name, value)
    assert run_of_job(["--config", "quickstart"], tmp_path) == tmp_path / "parts/two"
    assert run_of_job(["--config", "other"], tmp_path) is None
    monkeypatch.setenv("WAND_JOB", "another")
    assert run_of_job(["--config", "quickstart"], tmp_path) is None
