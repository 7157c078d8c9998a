"""Fits and hearings as processes of their own. What is finished is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmarks.ablations.hearing import FIGURES, data_of
from benchmarks.ablations.plan import BASELINE, Run
from wand.assets import asset_folder
from wand.cli.configs import find_config
from wand.console.interrupt import Interrupted, stop_requested
from wand.evaluation.result_files import TABLE
from wand.files.contents import content_digests
from wand.files.writing import write_text
from wand.runs.checkpoints import RUNS
from wand.runs.old_names import read_config

FOLDER = RUNS / "ablations"
# What the teacher speaks (configs/ablations/teacher-speech.yaml): the texts of the recorded speech.
TEXTS = FOLDER / "texts.txt"
# What comes with wand and determines the weights of a run, where the config names it as `embedded`.
ASSETS = ("codec", "encodec_lm", "speech")
# Nothing is spoken in a fit: that would not change the weights, and the hearing speaks more.
QUIET = ("--recogniser=null", "--speech.sounds=0")


@dataclass(frozen=True, slots=True)
class Setup:
    """What is trained and how it is heard.

    Args:
        config: The config that the rows change.
        options: Further options of every fit.
        recognisers: The recognisers, as in ``wand test``.
        takes: Takes of every test sentence.
    """

    config: str
    options: tuple[str, ...] = ()
    recognisers: tuple[str, ...] = ("embedded",)
    takes: int = 2

    def folder(self, run: Run) -> Path:
        """The run folder. Its name has a digest of all that determines the weights."""
        return FOLDER / f"{run.row.name}-{run.seed}-{self._digest(run)[:8]}"

    def _digest(self, run: Run) -> str:
        configs = [read_config(find_config(name))[0] for name in (self.config, *run.row.overlays)]
        merged = OmegaConf.to_container(OmegaConf.merge(*configs))
        assets = sorted(file for name in ASSETS for file in asset_folder(name).iterdir() if file.suffix != ".md")
        parts = (merged, run.row.options, self.options, run.seed, [*content_digests(assets).values()])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def figures(self, run: Run) -> dict[str, Any] | None:
        """The figures of a finished run; None if it is not finished, or was heard in another way."""
        file = self.folder(run) / FIGURES
        if not file.is_file():
            return None
        found: dict[str, Any] = json.loads(file.read_text())
        same = found["recognisers"].keys() == set(self.recognisers) and found["takes"] == self.takes
        return found if same and found["systems"].keys() >= set(run.systems) else None

    def do(self, run: Run) -> None:
        """Fit and hear, as far as it is not done.

        Raises:
            ValueError: If a process fails.
        """
        folder = self.folder(run)
        if not (folder / "closing" / TABLE).is_file():
            self._fit(run, folder)
        options = ["--systems", *run.systems, "--recognisers", *self.recognisers, f"--takes={self.takes}"]
        data = self.folder(Run(BASELINE, run.seed))
        start("benchmarks.ablations.hearing", [str(folder), f"--data={data}", *options], log_of(folder))

    def _fit(self, run: Run, folder: Path) -> None:
        configs = [part for name in (self.config, *run.row.overlays) for part in ("--config", name)]
        named = [f"--name={folder.relative_to(RUNS)}", f"--seed_everything={run.seed}", f"--data.seed={run.seed}"]
        if any(folder.glob("checkpoints/*.ckpt")):
            named.append(f"--ckpt_path={folder}")
        else:  # it was interrupted before its first checkpoint
            shutil.rmtree(folder, ignore_errors=True)
        if "ablations/teacher-speech" in run.row.overlays:
            self._write_texts(run)
        start("wand.cli", ["fit", *configs, *named, *QUIET, *run.row.options, *self.options], log_of(folder))

    def _write_texts(self, run: Run) -> None:
        source = data_of(self.folder(Run(BASELINE, run.seed))).source
        texts = [utterance.text for split in ("train", "validation") for utterance in source.utterances(split)]
        write_text(TEXTS, "".join(f"{text}\n" for text in texts))


def log_of(folder: Path) -> Path:
    """The file that has what the processes of a run print."""
    return folder.with_name(f"{folder.name}.log")


def start(module: str, arguments: Sequence[str], log: Path) -> None:
    """Run a Python module in a process of its own and wait for its end. A signal is passed on to it.

    Args:
        module: The module.
        arguments: Its arguments.
        log: The file to which its output is added.

    Raises:
        ValueError: If it fails.
        Interrupted: If a signal has stopped it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process only
        )
        told = False
        while process.poll() is None:
            if stop_requested() and not told:
                process.send_signal(signal.SIGTERM)
                told = True
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
    if number := stop_requested():
        raise Interrupted(number, "the same command goes on")
    if process.returncode != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"{module} failed ({process.returncode}): {''.join(last)} (see {os.path.relpath(log)})")
