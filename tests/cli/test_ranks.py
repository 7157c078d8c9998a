"""Two processes of one run: one run folder, one step at which all stop, one line when one of them is lost."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kills import fit_options, leaves
from tests import processes
from tests.processes import as_nodes, as_torchrun, command, end, start
from tests.workplace import DATA, Workplace
from wand import ranks
from wand.callbacks import attention_pictures, comparison_table, speech
from wand.cli import main
from wand.cli.parts import together
from wand.data.datamodule import SpeechDataModule
from wand.evaluation import test as evaluation
from wand.training.module import WandModule

RUN = "nodes-2"
SPEAKING = "speak_examples"
# Seconds: the time-out of a collective, and a longer time in which one process works alone.
TIME_OUT, LATE = 20, 25
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def options(name: str, workplace: Workplace) -> list[str]:
    short = f"{DATA}.folder={workplace.speech}"
    return [*fit_options(name, workplace.pretrained), short, "--trainer.max_epochs=1", "--trainer.strategy=ddp"]


def disturbed(rank: int, arguments: list[str], number: int, senders: tuple[int, ...], place: str, call: int) -> int:
    """A command; some ranks get a signal at one call of a function of the fit."""
    ranks.ANSWER = 1.0
    owner: Any = speech if place == SPEAKING else WandModule
    whole, calls = getattr(owner, place), 0

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and rank in senders:
            os.kill(os.getpid(), number)
        return whole(*given, **named)

    setattr(owner, place, counted)
    return main(arguments)


def blind(rank: int, arguments: list[str]) -> int:
    """A command on two machines without a common file system: the second does not see what the first writes."""
    together.VISIBLE_AFTER = 0.0
    if rank == 1:
        together.Path.exists = lambda self: False  # type: ignore[method-assign]
    return main(arguments)


def run(
    work: Callable[..., int], arguments: list[str], *more: Any, variables: list[dict[str, str]] | None = None
) -> tuple[list[int | None], list[str]]:
    """Exit statuses and outputs of two processes."""
    found = as_torchrun() if variables is None else variables
    devices = "--trainer.devices=1" if "NODE_RANK" in found[0] else "--trainer.devices=2"
    statuses = end(start(work, ([*arguments, devices], *more), found, Path("logs")))
    return statuses, [Path(f"logs/{rank}.txt").read_text() for rank in range(2)]


def checkpoint(name: str, kind: str = "last") -> Mapping[str, Any]:
    content = torch.load(f"runs/{name}/checkpoints/{kind}.ckpt", weights_only=True)
    return dict(leaves({part: content[part] for part in ("state_dict", "optimizer_states", "global_step", "wand")}))


def assert_equal_runs(name: str, other: str = RUN) -> None:
    for kind in ("last", "best"):
        expected, found = checkpoint(other, kind), checkpoint(name, kind)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            same = torch.equal(value, found[key]) if isinstance(value, torch.Tensor) else value == found[key]
            assert same, f"{kind}.ckpt: {key}"


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory, enter: Callable[..., Workplace]) -> Workplace:
    """A folder with one undisturbed fit of two processes on two machines; the name of its run was taken."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        workplace = enter(tmp_path_factory.mktemp("ranks"), monkeypatch)
        taken = Path("runs/nodes/checkpoints")
        taken.mkdir(parents=True)
        (taken / "best.ckpt").write_text("of an older run")
        arguments = [*options("nodes", workplace), "--trainer.num_nodes=2"]
        statuses, outputs = run(command, arguments, variables=as_nodes())
        assert statuses == [0, 0], outputs
    return workplace


@pytest.fixture(autouse=True)
def _in_its_folder(fits: Workplace, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.chdir(fits.folder)
    monkeypatch.setenv("WAND_CACHE", str(cache))


def test_two_machines_make_one_run_folder_although_its_name_is_taken(fits: Workplace) -> None:
    assert [path.name for path in sorted(Path("runs").glob("nodes*"))] == ["nodes", RUN]
    assert [path.name for path in Path("runs/nodes").rglob("*")] == ["checkpoints", "best.ckpt"]
    assert Path(f"runs/{RUN}/closing/table.json").is_file()


@pytest.mark.parametrize(
    ("senders", "place", "call", "step"),
    [
        pytest.param((1,), "training_step", 4, 2, id="one, inside an accumulation"),
        pytest.param((0, 1), SPEAKING, 1, 1, id="both, while the first speaks"),
        pytest.param((1,), SPEAKING, 1, 1, id="the one that waits while the other speaks"),
    ],
)
def test_all_stop_at_one_step_and_one_machine_resumes_to_the_same_bits(
    fits: Workplace, senders: tuple[int, ...], place: str, call: int, step: int
) -> None:
    name = f"{place}-{len(senders)}-{senders[0]}"
    statuses, outputs = run(disturbed, options(name, fits), signal.SIGTERM, senders, place, call)
    assert statuses == [128 + signal.SIGTERM] * 2, outputs
    said = re.search(r"stopped by SIGTERM: saved at step (\d+); go on with: wand (.*)", "".join(outputs))
    assert said is not None, outputs
    assert "stopped by SIGTERM" not in outputs[1]
    assert int(said[1]) == checkpoint(name)["global_step"] == step
    statuses, outputs = run(command, shlex.split(said[2]))
    assert statuses == [0, 0], outputs
    assert_equal_runs(name)


def test_a_lost_process_is_named_in_one_line(fits: Workplace) -> None:
    arguments = options("lost", fits)
    statuses, outputs = run(disturbed, arguments, signal.SIGKILL, (1,), "training_step", 5)
    assert statuses == [2, -signal.SIGKILL], outputs
    assert "Traceback" not in outputs[0]
    expected = "wand: error: process 1 of 2 (counted from 0) was lost: its own output says why; go on with: wand fit"
    assert expected in outputs[0]


def test_a_machine_that_does_not_see_the_run_folder_stops_the_run(fits: Workplace) -> None:
    arguments = [*options("apart", fits), "--trainer.num_nodes=2"]
    statuses, outputs = run(blind, arguments, variables=as_nodes())
    assert statuses == [2, 2], outputs
    for output in outputs:
        assert re.search(r"wand: error: process 1 on \S+ cannot see the run folder .*/runs/apart: ", output), output
    assert not Path("runs/apart").exists()


def slow(rank: int, arguments: list[str]) -> int:
    """A command whose first process takes longer than a collective may, wherever it works alone."""

    def slowed(owner: Any, name: str) -> None:
        whole = getattr(owner, name)

        def late(*given: Any, **named: Any) -> Any:
            time.sleep(LATE if rank == 0 else 0)
            return whole(*given, **named)

        setattr(owner, name, late)

    slowed(speech.SpeechLogger, "_log_sounds")
    slowed(attention_pictures.AttentionPictures, "_draw_own")
    slowed(evaluation, "step_milliseconds")
    slowed(comparison_table, "show")
    slowed(SpeechDataModule, "prepare_for")
    return main(arguments)


@pytest.mark.integration
def test_what_one_process_does_may_take_longer_than_a_collective(
    fits: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LIMIT", 600.0)
    arguments = [one for one in options("slow", fits) if "strategy" not in one]
    limited = ["--trainer.strategy=DDPStrategy", f"--trainer.strategy.timeout=0:00:{TIME_OUT:02}"]
    statuses, outputs = run(slow, [*arguments, *limited])
    assert statuses == [0, 0], outputs
    assert_equal_runs("slow")


@pytest.mark.integration
def test_torchrun_on_two_machines(fits: Workplace) -> None:
    arguments = [*options("torchrun", fits), "--trainer.num_nodes=2", "--trainer.devices=1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    meeting = ["--master-addr=127.0.0.1", f"--master-port={processes.free_port()}", "-m", "wand.cli"]
    nodes = [
        subprocess.Popen([*launcher, f"--node-rank={rank}", *meeting, *arguments], env={**os.environ, **ONE_THREAD})
        for rank in range(2)
    ]
    assert [node.wait(600) for node in nodes] == [0, 0]
    assert [path.name for path in Path("runs").glob("torchrun*")] == ["torchrun"]
    assert_equal_runs("torchrun")
