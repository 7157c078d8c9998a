"""The script of docs/cluster.md on Ray Train: in its local mode, and on two workers of which one is lost."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.kills import fit_options, leaves
from tests import processes
from tests.cli.test_config import parsed
from tests.processes import as_torchrun, end, start
from tests.workplace import Workplace
from wand.cli import main

ROOT = Path(__file__).parents[2]
SCRIPT = "train_on_ray.py"
with_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (wand-tts[ray])")


class LostOnce(Callback):
    """Kills the process with rank 1 in the middle of a fit, once."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Kill the process."""
        there = Path("lost")
        if trainer.global_rank == 1 and trainer.global_step == 3 and not there.exists():
            there.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def options(workplace: Workplace) -> list[str]:
    """The options of a fit that speaks nothing."""
    chosen = [one for one in fit_options("", workplace.pretrained)[1:] if not one.startswith("--name=")]
    return [*chosen, "--speech.sounds=0"]


def fit(rank: int, arguments: list[str]) -> int:
    return main(["fit", *arguments])


def run_script(rank: int, arguments: list[str]) -> int:
    """The page's script, on Ray Train without a cluster."""
    sys.argv = [SCRIPT, *arguments]
    runpy.run_path(SCRIPT, run_name="__main__")
    return 0


def in_two(work: Callable[[int, list[str]], int], arguments: list[str]) -> tuple[list[int | None], str]:
    """Exit statuses and output of two processes."""
    statuses = end(start(work, (arguments,), as_torchrun(), Path("logs")))
    return statuses, "".join(Path(f"logs/{rank}.txt").read_text() for rank in range(2))


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory, enter: Callable[..., Workplace]) -> Workplace:
    """A folder with the page's script and a fit of two processes without Ray."""
    (text,) = re.findall(rf'```python title="{SCRIPT}"\n(.*?)```', (ROOT / "docs/cluster.md").read_text(), re.DOTALL)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(processes, "LIMIT", 600.0)
        workplace = enter(tmp_path_factory.mktemp("ray"), monkeypatch)
        Path(SCRIPT).write_text(text)
        ddp = ["--name=plain", "--config=strategy/ddp", "--trainer.devices=2"]
        statuses, output = in_two(fit, [*options(workplace), *ddp])
        assert statuses == [0, 0], output
    return workplace


@pytest.fixture
def _there(fits: Workplace, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.chdir(fits.folder)
    monkeypatch.setenv("WAND_CACHE", str(cache))
    monkeypatch.setattr(processes, "LIMIT", 600.0)


def content(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, without the callbacks, which name the run folder."""
    return {part: value for part, value in torch.load(path, weights_only=True).items() if part != "callbacks"}


def assert_equal_runs(name: str, other: str = "plain") -> None:
    """Compare the last and best checkpoints of two runs."""
    for kind in ("last", "best"):
        paths = [Path(f"runs/{run}/checkpoints/{kind}.ckpt") for run in (other, name)]
        expected, found = (dict(leaves(content(path))) for path in paths)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            same = torch.equal(value, found[key]) if isinstance(value, torch.Tensor) else value == found[key]
            assert same, f"{kind}.ckpt: {key}"


def test_the_overlay_names_ray(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("ray") is not None:
        trainer = parsed(capsys, "--config", "quickstart", "--config", "strategy/ray")["trainer"]
        assert trainer["strategy"]["class_path"] == "ray.train.lightning.RayDDPStrategy"
        assert [one["class_path"] for one in trainer["plugins"]] == ["ray.train.lightning.RayLightningEnvironment"]
        return
    assert main(["fit", "--config", "quickstart", "--config", "strategy/ray", *workplace.fit]) == 2
    assert "ray" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.integration
@with_ray
@pytest.mark.usefixtures("_there")
def test_local_mode_gives_the_weights_of_a_fit(fits: Workplace) -> None:
    statuses, output = in_two(run_script, ["local", "0", "cpu", *options(fits)])
    assert statuses == [0, 0], output
    assert_equal_runs("local")
    command = re.search(r"^  wand (test .*)$", output, re.MULTILINE)
    assert command is not None, output
    assert main([*shlex.split(command[1]), "--table.full.sentences=1", "--table.full.seeds=1"]) == 0  # outside of Ray


@pytest.mark.integration
@with_ray
@pytest.mark.usefixtures("_there")
def test_an_error_is_an_error_of_ray(fits: Workplace) -> None:
    statuses, output = in_two(run_script, ["wrong", "0", "cpu", *options(fits), "--data.batch_size=0"])
    assert statuses == [1, 1]
    assert output.count("RuntimeError: wand fit has ended with status 2: its last line says why") >= 2


# Ray gives up after 30 or 60 s, which is too early on a busy machine. Without a token it writes nothing into the home.
SLOWLY = {
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
}
# A cluster of this machine without a dashboard. Ray waits only 15 s for the dashboard's agent, which is not started
# without the package aiohttp_cors.
CLUSTER = """
import runpy, sys
sys.modules["aiohttp_cors"] = None
import ray
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**27)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.integration
@with_ray
@pytest.mark.usefixtures("_there")
def test_two_workers_of_which_one_is_lost_give_the_weights_of_two_processes(fits: Workplace) -> None:
    lost = f"--trainer.callbacks+={LostOnce.__module__}.LostOnce"
    command = [sys.executable, "-c", CLUSTER, SCRIPT, "cluster", "2", "cpu", *options(fits), lost]
    subprocess.run(command, env={**os.environ, **SLOWLY, "PYTHONPATH": str(ROOT)}, check=True, timeout=1200)
    assert Path("lost").exists()
    assert [path.name for path in Path("runs").glob("cluster*")] == ["cluster"]
    assert_equal_runs("cluster")
