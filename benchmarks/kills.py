"""Kills and interrupts small fits at random moments, resumes them, and compares with an undisturbed fit.

    python -m benchmarks.kills --kills 30 --signals 10
    python -m benchmarks.kills --processes 2 --kills 0 --signals 0 --terminations 10

With several processes (DDP on one machine), a case sends its signal to one of them, or to all. Every second case has
its temporary files on another file system, if there is one. The fit accumulates gradients and validates in the middle
of an accumulation. Exits with 1 if a run differs, or does not end as it should.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.table import Table

from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.cli import main as wand
from wand.cli import training  # noqa: F401 - imported once, for all forks
from wand.console.interrupt import SIGNALS

SHAPE = EncodecLMArchitecture(hidden_size=32, num_layers=2, num_heads=2, num_key_value_heads=1, intermediate_size=48)
SOURCE = "--data.source.init_args"
OTHER_DISK = Path("/dev/shm")


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
    """One disturbed fit: a signal after some seconds, the folder of temporary files, and the ranks to send it to."""

    number: int
    seconds: float
    temporary: Path
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `fault` is empty if everything was right."""

    case: Case
    had_checkpoint: bool
    waited: float
    fault: str


def start(arguments: list[str], folder: Path, temporary: Path, processes: int = 1) -> list[int]:
    """Run a command of wand in forks, with their output in ``log.txt``. Returns the processes, by rank."""
    (folder / "log.txt").write_text("")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    several = [f"--trainer.devices={processes}", "--trainer.strategy=ddp"] if processes > 1 else []
    started = []
    for rank in range(processes):
        ranked = {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(processes), **meeting} if several else {}
        process = os.fork()
        if not process:
            _run([*arguments, *several], folder, temporary, ranked)
        started.append(process)
    return started


def _run(arguments: list[str], folder: Path, temporary: Path, ranked: dict[str, str]) -> NoReturn:
    status = 1
    try:
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.chdir(folder)
        os.environ |= {"WAND_CACHE": str(folder / "cache"), "TMPDIR": str(temporary), **ranked}
        tempfile.tempdir = None
        log = os.open("log.txt", os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = wand(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end(processes: list[int], patience: float = 600.0) -> list[int]:
    """Wait for the end of processes. Returns their exit statuses, negative if a signal ended one."""
    latest = time.monotonic() + patience
    statuses: dict[int, int] = {}
    while len(statuses) < len(processes):
        for process in processes:
            if process not in statuses:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    statuses[process] = os.waitstatus_to_exitcode(status)
                elif time.monotonic() > latest:
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
    return [statuses[process] for process in processes]


class Workshop:
    """A folder with a tiny model and an undisturbed fit, where disturbed fits are compared with it.

    Args:
        folder: An empty folder.
        processes: Number of processes of a fit.
        patience: The longest time, in seconds, from a signal to the end of the processes.
    """

    def __init__(self, folder: Path, processes: int = 1, patience: float = 30.0) -> None:
        self.folder = folder
        self.patience = patience
        self.processes = processes
        self.pretrained = folder / "pretrained"
        torch.manual_seed(0)
        EncodecLM(architecture=SHAPE).save_pretrained(self.pretrained)
        # The first fit makes the data, the second shows how long a fit takes.
        for name in ("first", "undisturbed"):
            begin = time.monotonic()
            statuses = end(self._start(fit_options(name, self.pretrained), folder))
            assert not any(statuses), (folder / "log.txt").read_text()
            self.seconds = time.monotonic() - begin
        self.expected = [self._checkpoint("undisturbed", kind) for kind in ("last", "best")]

    def _start(self, options: list[str], temporary: Path) -> list[int]:
        return start(options, self.folder, temporary, self.processes)

    def disturb(self, name: str, case: Case) -> Outcome:
        """Run a fit, send it the signal, resume it, and compare."""
        options = fit_options(name, self.pretrained)
        processes = self._start(options, case.temporary)
        time.sleep(case.seconds)
        for rank in case.ranks:
            os.kill(processes[rank], case.number)  # an ended process waits for `end`, so the number is still its own
        begin = time.monotonic()
        statuses = end(processes, self.patience)
        waited = time.monotonic() - begin
        had_checkpoint = any((self.folder / "runs" / name).glob("checkpoints/[!.]*.ckpt"))
        return Outcome(case, had_checkpoint, waited, self._fault(name, case, options, statuses, had_checkpoint))

    def _fault(self, name: str, case: Case, options: list[str], statuses: list[int], had_checkpoint: bool) -> str:
        right = -signal.SIGKILL if case.number == signal.SIGKILL else 128 + case.number
        # Before the command has begun to handle signals, a signal has its default action, and there is no run.
        early = not (self.folder / "runs" / name).exists() and -case.number in statuses
        # 0: it was finished before the signal
        if statuses not in ([0] * self.processes, [right] * self.processes) and not early:
            return f"ended with {statuses}: {self._log()}"
        resumed = end(self._start([*options, f"--ckpt_path=runs/{name}"], case.temporary))
        if had_checkpoint:
            return f"not resumed: {self._log()}" if any(resumed) else self._difference(name)
        if set(resumed) != {2} or "Traceback" in self._log() or "wand: error: " not in self._log():
            return f"no checkpoint, but the resumed run ended with {resumed}: {self._log()}"
        before = set((self.folder / "runs").iterdir())
        if any(end(self._start(options, case.temporary))):
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


def plan(counts: dict[int, int], seconds: float, seed: int, folder: Path, processes: int = 1) -> list[Case]:
    """Cases at random moments of a fit that takes some seconds; every second one has another disk.

    With several processes, the signal goes to the first, to the last, or to all, in turn.
    """
    chance = random.Random(seed)
    numbers = [number for number, count in counts.items() for _ in range(count)]
    other = OTHER_DISK.is_dir() and OTHER_DISK.stat().st_dev != folder.stat().st_dev
    disks = [folder, OTHER_DISK if other else folder]
    targets = [(0,), (processes - 1,), tuple(range(processes))]
    return [Case(number, chance.uniform(0, seconds), disks[i % 2], targets[i % 3]) for i, number in enumerate(numbers)]


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
    parser.add_argument(
        "--terminations", type=int, help="number of SIGTERMs (default: as many as of the other signals)"
    )
    parser.add_argument("--processes", type=int, default=1, help="number of processes of a fit (default: 1)")
    parser.add_argument(
        "--patience", type=float, default=30.0, help="longest time from a signal to the end, in seconds (default: 30)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts = {signal.SIGKILL: arguments.kills, **dict.fromkeys(SIGNALS, arguments.signals)}
    if arguments.terminations is not None:
        counts[signal.SIGTERM] = arguments.terminations
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        workshop = Workshop(Path(temporary).resolve(), arguments.processes, arguments.patience)
        cases = plan(counts, workshop.seconds, arguments.seed, workshop.folder, arguments.processes)
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
