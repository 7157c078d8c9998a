"""Jobs: a job that starts again goes on with the run that it began.

A scheduler names the job in ``WAND_JOB``, and SLURM in variables of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from wand.files.writing import write_text
from wand.runs.checkpoints import RUNS

JOB = "job.json"
NAMED = "WAND_JOB"


def job_of(arguments: Sequence[str]) -> dict[str, object] | None:
    """What identifies a command in a job; None outside of jobs. It is the same when the job starts again.

    Args:
        arguments: The arguments of the command. One job may run several commands.
    """
    job = os.environ.get(NAMED) or os.environ.get("SLURM_JOB_ID")
    return None if job is None else {"job": job, "arguments": list(arguments)}


def record_job(folder: Path, arguments: Sequence[str]) -> None:
    """Write the job into the folder of its run."""
    if (job := job_of(arguments)) is not None:
        write_text(folder / JOB, json.dumps(job) + "\n")


def run_of_job(arguments: Sequence[str], runs: Path = RUNS) -> Path | None:
    """The folder of the run that this command began before its job started again; None if there is none.

    Args:
        arguments: The arguments of the command.
        runs: Folder that contains the run folders.
    """
    if not os.environ.get(NAMED) and int(os.environ.get("SLURM_RESTART_COUNT") or 0) == 0:
        return None
    job = job_of(arguments)
    found = [file for file in runs.glob(f"**/*/{JOB}") if _read(file) == job]
    newest = max(found, key=lambda file: file.stat().st_mtime, default=None)
    return None if newest is None else newest.parent.absolute()


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):  # another job's, and not our concern
        return None
