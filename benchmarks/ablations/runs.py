"""Fits and evaluations as processes of their own. What is finished is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from omegaconf import OmegaConf

from benchmarks.ablations.plan import BASELINE, TEACHER_SPEECH, Run
from benchmarks.ablations.results import Coverage, Heard, Key, RunFigures, SystemFigures
from benchmarks.processor import machine
from wand.assets import asset_folder
from wand.cli.configs import build_section, find_config, section_of_config
from wand.console.interrupt import Interrupted, stop_requested
from wand.evaluation.result_files import TABLE, read_result
from wand.evaluation.study.description import read_description
from wand.evaluation.study.rows import ROWS, read_rows
from wand.files.contents import content_digests
from wand.files.writing import write_text
from wand.runs.checkpoints import RUNS
from wand.runs.old_names import read_config
from wand.version import __version__

FOLDER = RUNS / "ablations"
# What the teacher speaks (configs/ablations/teacher-speech.yaml): the texts of the recorded speech.
TEXTS = FOLDER / "texts.txt"
# What comes with wand and determines the weights of a run, where the config names it as `embedded`.
ASSETS = ("codec", "encodec_lm", "speech")
# Nothing is spoken in a fit or a test: that would not change the weights or this table, and the evaluation speaks more.
QUIET = ("--recogniser=null", "--speech.sounds=0")


@dataclass(frozen=True, slots=True)
class Setup:
    """What is trained and how it is heard.

    Args:
        config: The config that the rows change.
        options: Further options of every fit.
        recognisers: The recognisers, as in ``wand evaluate``.
        takes: Takes of every test sentence.
        threads: Threads of each process; None for all cores.
    """

    config: str
    options: tuple[str, ...] = ()
    recognisers: tuple[str, ...] = ("embedded",)
    takes: int = 2
    threads: int | None = None

    def folder(self, run: Run) -> Path:
        """The run folder. Its name has a digest of all that determines the weights."""
        return FOLDER / f"{run.row.name}-{run.seed}-{self._digest(run)[:8]}"

    def _digest(self, run: Run) -> str:
        configs = [read_config(find_config(name))[0] for name in (self.config, *run.row.configs)]
        merged = OmegaConf.to_container(OmegaConf.merge(*configs))
        assets = sorted(file for name in ASSETS for file in asset_folder(name).iterdir() if file.suffix != ".md")
        parts = (merged, run.row.options, self.options, run.seed, [*content_digests(assets).values()])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def study(self, run: Run) -> Path:
        """The folder of its evaluation. Its name has a digest of who speaks and who listens."""
        parts = (self.recognisers, self.takes, run.systems)
        return self.folder(run) / f"evaluation-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]}"

    def find(self, run: Run, results: Mapping[Key, RunFigures]) -> RunFigures | None:
        """The figures of a finished run; None if it is not finished, or was heard in another way."""
        found = results.get(Key.of(self.folder(run).name, self.recognisers, self.takes))
        return found if found is not None and found.systems.keys() >= {*run.systems} else None

    def do(self, run: Run) -> RunFigures:
        """Fit and evaluate, as far as it is not done.

        Raises:
            ValueError: If a process fails.
            Interrupted: If a signal has come.
        """
        folder = self.folder(run)
        if not (folder / "closing" / TABLE).is_file():
            self._fit(run, folder)
        study, checkpoint = self.study(run), folder / "checkpoints" / "best.ckpt"
        result = folder / "closing"
        if TEACHER_SPEECH in run.row.overlays:  # its fit has tested it on other speech than that of the other rows
            result = folder / "test"
            if not (result / TABLE).is_file():
                self._test(checkpoint, folder)
        ears = ["--recogniser", *self.recognisers, "--seeds", *map(str, range(self.takes))]
        only = [] if len(run.systems) > 1 else ["--students_only", "--no_recordings"]
        self._start(
            ["evaluate", str(checkpoint), f"--config={self.config}", f"--out={study}", *ears, *only, "--sounds=0"],
            folder,
        )
        if run.row is BASELINE and run.first:
            self._start(["analyze", f"--ckpt_path={folder}"], folder)
        return self._read(folder, result, study)

    def _fit(self, run: Run, folder: Path) -> None:
        configs = [f"--config={name}" for name in (self.config, *run.row.configs)]
        named = [f"--name={folder.relative_to(RUNS)}", f"--seed_everything={run.seed}", f"--data.seed={run.seed}"]
        if any(folder.glob("checkpoints/*.ckpt")):
            named.append(f"--ckpt_path={folder}")
        else:  # it was interrupted before its first checkpoint
            shutil.rmtree(folder, ignore_errors=True)
        if TEACHER_SPEECH in run.row.overlays:
            self._write_texts()
        self._start(["fit", *configs, *named, *QUIET, *run.row.options, *self.options], folder)

    def _test(self, checkpoint: Path, folder: Path) -> None:
        """Test a student on the recorded speech of the baseline."""
        configs = [f"--config={name}" for name in (self.config, *BASELINE.configs)]
        brief = ("--table.full.windows=[]", "--table.full.student_full=false")
        self._start(["test", *configs, f"--ckpt_path={checkpoint}", *QUIET, *brief, *self.options], folder)

    def _write_texts(self) -> None:
        source = build_section("data", section_of_config(self.config, "data")).source
        texts = [utterance.text for split in ("train", "validation") for utterance in source.utterances(split)]
        write_text(TEXTS, "".join(f"{text}\n" for text in texts))

    def _start(self, arguments: Sequence[str], folder: Path) -> None:
        start("wand.cli", arguments, folder.with_name(f"{folder.name}.log"), self.threads)

    def _read(self, folder: Path, result: Path, study: Path) -> RunFigures:
        """The figures of a test on recorded speech, and of the evaluation of what was spoken."""
        table = {row.system.name: row for row in read_result(result).rows}
        seconds = max(table["student"].kv_bytes)
        names = read_description(study).recognisers
        heard: dict[str, dict[str, Heard]] = {}
        rows = read_rows(study / ROWS)
        for system in dict.fromkeys(row.system for row in rows):
            own = [row for row in rows if row.system == system]
            heard[system] = {name: Heard.of(own, name) for name in names}
        systems = {}
        for system in heard.keys() & table.keys():
            row = table[system]
            assert row.agreement is not None, "a fit compares with the teacher"
            assert row.kl is not None, "a fit compares with the teacher"
            window = row.system.window.plain
            systems[system] = SystemFigures(window, row.agreement, row.kl, row.kv_bytes[seconds], heard[system])
        return RunFigures(
            run=folder.name,
            recognisers=dict(zip(self.recognisers, names, strict=True)),
            takes=self.takes,
            seconds=seconds,
            date=date.today().isoformat(),
            machine=f"{machine()}; wand {__version__}",
            systems=systems,
            recorded=heard.get("recorded"),
            coverage=_read_coverage(folder / "analysis" / "coverage.json"),
        )


def _read_coverage(file: Path) -> Coverage | None:
    """What ``wand analyze`` has written; None if it was not asked."""
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    covered = [(int(line["window"]), float(line["covered"])) for line in content["windows"]]
    return Coverage(covered, content["recommended_window"])


def start(module: str, arguments: Sequence[str], log: Path, threads: int | None = None) -> None:
    """Run a Python module in a process of its own and wait for its end. A signal is passed on to it.

    Args:
        module: The module.
        arguments: Its arguments.
        log: The file to which its output is added.
        threads: Threads of the process; None for all cores.

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
            env=os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)}),
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
