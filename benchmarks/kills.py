"""Kills and interrupts small fits at random moments, resumes them, and compares with an undisturbed fit.

    python -m benchmarks.kills --kills 30 --signals 10

Every second case has its temporary files on another file system, if there is one. The fit accumulates gradients and
validates in the middle of an accumulation. Exits with 1 if a run differs, or does not end as it should.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.cli import main as wand
from wand.cli import training  # noqa: F401 - imported once, for all forks
from wand.console.interrupt import SIGNALS

SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "num_key_value_heads": 1, "intermediate_size": 48}
SOURCE = "--data.source.init_args"
OTHER_DISK = Path("/dev/shm")
# The longest time, in seconds, from a signal to the end of the process.
PATIENCE = 30.0


def fit_options(name: str, pretrained: Path) -> list[str]:
    """A fit of a few seconds that saves, validates and speaks often."""
    return [
        "fit",
        "--config=quickstart",
        f"--name={name}",
        f"--model.backbone.init_args.pretrained={pretrained}",
        "--model.window=8",
        f"{SOURCE}.hours=0.03",
        f"{SOURCE}.validation_sentences=3",
        f"{SOURCE}.test_sentences=3",
        "--data.batch_size=2",
        "--data.workers=0",
        "--recogniser=null",
        "--checkpoint.monitor=val/agreement",
        "--checkpoint.mode=max",
        "--speech.sounds=1",
        "--table.columns=[10]",
        "--last_checkpoint.every_n_train_steps=2",
        "--trainer.max_epochs=2",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.val_check_interval=3",
        "--trainer.logger=false",
        "--trainer.enable_progress_bar=false",
    ]


@dataclass(frozen=True)
class Case:
    """One disturbed fit: a signal after some seconds, and the folder of temporary files."""

    number: int
    seconds: float
    temporary: Path


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `fault` is empty if everything was right."""

    case: Case
    had_checkpoint: bool
    waited: float
    fault: str


def start(arguments: list[str], folder: Path, temporary: Path) -> int:
    """Run a command of wand in a fork, with its output in ``log.txt``. Returns the process."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.chdir(folder)
        os.environ |= {"WAND_CACHE": str(folder / "cache"), "TMPDIR": str(temporary)}
        tempfile.tempdir = None
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = wand(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end(process: int, patience: float = 600.0) -> int:
    """Wait for the end of a process. Returns its exit status, negative if a signal ended it."""
    latest = time.monotonic() + patience
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > latest:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.005)


class Workshop:
    """A folder with a tiny model and an undisturbed fit, where disturbed fits are compared with it.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pretrained = folder / "pretrained"
        torch.manual_seed(0)
        EncodecLM(architecture=EncodecLMArchitecture(**SHAPE)).save_pretrained(self.pretrained)
        # The first fit makes the data, the second shows how long a fit takes.
        for name in ("first", "undisturbed"):
            begin = time.monotonic()
            status = end(start(fit_options(name, self.pretrained), folder, folder))
            assert status == 0, (folder / "log.txt").read_text()
            self.seconds = time.monotonic() - begin
        self.expected = [self._checkpoint("undisturbed", kind) for kind in ("last", "best")]

    def disturb(self, name: str, case: Case) -> Outcome:
        """Run a fit, send it the signal, resume it, and compare."""
        options = fit_options(name, self.pretrained)
        process = start(options, self.folder, case.temporary)
        time.sleep(case.seconds)
        os.kill(process, case.number)  # an ended process waits for `end`, so the number is still its own
        begin = time.monotonic()
        status = end(process, PATIENCE)
        waited = time.monotonic() - begin
        had_checkpoint = any((self.folder / "runs" / name).glob("checkpoints/[!.]*.ckpt"))
        return Outcome(case, had_checkpoint, waited, self._fault(name, case, options, status, had_checkpoint))

    def _fault(self, name: str, case: Case, options: list[str], status: int, had_checkpoint: bool) -> str:
        right = -signal.SIGKILL if case.number == signal.SIGKILL else 128 + case.number
        # Before the command has begun to handle signals, a signal has its default action, and there is no run.
        early = not (self.folder / "runs" / name).exists() and status == -case.number
        if status not in (0, right) and not early:  # 0: it was finished before the signal
            return f"ended with {status}: {self._log()}"
        resumed = end(start([*options, f"--ckpt_path=runs/{name}"], self.folder, case.temporary))
        if had_checkpoint:
            return self._difference(name) if resumed == 0 else f"not resumed: {self._log()}"
        if resumed != 2 or "Traceback" in self._log() or "wand: error: " not in self._log():
            return f"no checkpoint, but the resumed run ended with {resumed}: {self._log()}"
        before = set((self.folder / "runs").iterdir())
        if end(start(options, self.folder, case.temporary)) != 0:
            return f"the same command does not start again: {self._log()}"
        (again,) = set((self.folder / "runs").iterdir()) - before or {self.folder / "runs" / name}
        return self._difference(again.name)

    def _difference(self, name: str) -> str:
        strays = [str(path) for path in (self.folder / "runs" / name).rglob("*.partial")]
        if strays:
            return f"unfinished files are left: {strays}"
        for kind, expected in zip(("last", "best"), self.expected, strict=True):
            found = dict(leaves(self._checkpoint(name, kind)))
            for key, value in leaves(expected):
                same = torch.equal(value, found[key]) if isinstance(value, torch.Tensor) else value == found[key]
                if not same:
                    return f"{kind}.ckpt has another {key}"
        return ""

    def _checkpoint(self, name: str, kind: str) -> dict[str, Any]:
        path = self.folder / "runs" / name / "checkpoints" / f"{kind}.ckpt"
        content = torch.load(path, weights_only=True)
        parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "wand", "SpeechDataModule")
        scores = [state.get("best_model_score") for state in content["callbacks"].values() if "monitor" in state]
        return {part: content[part] for part in parts} | {"scores": scores}

    def _log(self) -> str:
        return (self.folder / "log.txt").read_text()[-2000:]


def leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested dictionaries and lists."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, content


def plan(kills: int, signals: int, seconds: float, seed: int, folder: Path) -> list[Case]:
    """Cases at random moments of a fit that takes some seconds; every second one has another disk."""
    chance = random.Random(seed)
    numbers = [signal.SIGKILL] * kills + [number for number in SIGNALS for _ in range(signals)]
    other = OTHER_DISK.is_dir() and OTHER_DISK.stat().st_dev != folder.stat().st_dev
    disks = [folder, OTHER_DISK if other else folder]
    return [Case(number, chance.uniform(0, seconds), disks[i % 2]) for i, number in enumerate(numbers)]


def show(outcomes: list[Outcome]) -> None:
    """Print one row per signal."""
    table = Table("signal", "cases", "before a checkpoint", "right", "wrong", "longest wait, s")
    for number in dict.fromkeys(outcome.case.number for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.case.number == number]
        wrong = sum(bool(outcome.fault) for outcome in own)
        early = sum(not outcome.had_checkpoint for outcome in own)
        longest = max(outcome.waited for outcome in own)
        cells = (len(own), early, len(own) - wrong, wrong)
        table.add_row(signal.Signals(number).name, *map(str, cells), f"{longest:.1f}")
    Console().print(table)


def main() -> int:
    """Run all cases and print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="number of SIGKILLs (default: 30)")
    parser.add_argument("--signals", type=int, default=10, help="number of cases of each other signal (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        workshop = Workshop(Path(temporary).resolve())
        cases = plan(arguments.kills, arguments.signals, workshop.seconds, arguments.seed, workshop.folder)
        for i, case in enumerate(cases):
            outcome = workshop.disturb(f"case-{i}", case)
            outcomes.append(outcome)
            if outcome.fault:
                name = signal.Signals(case.number).name
                print(f"case {i}, {name} after {case.seconds:.2f} s: {outcome.fault}", flush=True)
    show(outcomes)
    return int(any(outcome.fault for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
