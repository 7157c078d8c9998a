"""A signal stops every command where nothing is half done, and the command goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kills import fit_options, leaves
from tests.workplace import Workplace
from wand.cli import main, synthesize
from wand.data.encoding import Encoder
from wand.evaluation import test as evaluation
from wand.training.module import WandModule

RUN = "undisturbed"
# Under these, Lightning would save a checkpoint of its own at SIGUSR1 and queue the job again.
SLURM = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SLURM |= {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NODELIST": "localhost"}
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "wand", "SpeechDataModule")


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory, enter: Callable[..., Workplace]) -> Workplace:
    """A folder with one undisturbed fit, which accumulates gradients."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        workplace = enter(tmp_path_factory.mktemp("fits"), monkeypatch)
        # Some networks are loaded once in a process and draw random numbers then, so the first fit is not the measure.
        workplace.run(*options("first", workplace), "--trainer.max_steps=1")
        workplace.run(*options(RUN, workplace))
    return workplace


def options(name: str, workplace: Workplace) -> list[str]:
    """A fit that speaks nothing."""
    return [*fit_options(name, workplace.pretrained), "--speech.sounds=0"]


@dataclass
class SignalAtCall:
    """Sends this process a signal at one call of a function, and then calls it."""

    function: Callable[..., Any]
    number: int
    call: int
    calls: int = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.call:
            os.kill(os.getpid(), self.number)
        return self.function(*args, **kwargs)


def content(name: str, kind: str) -> dict[str, Any]:
    checkpoint = torch.load(f"runs/{name}/checkpoints/{kind}.ckpt", weights_only=True)
    return {part: checkpoint[part] for part in PARTS}


def assert_equal_runs(name: str) -> None:
    for kind in ("last", "best"):
        expected, found = (dict(leaves(content(one, kind))) for one in (RUN, name))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            same = torch.equal(value, found[key]) if isinstance(value, torch.Tensor) else value == found[key]
            assert same, f"{kind}.ckpt: {key}"


# 22 micro-batches in two epochs of 11, in groups of two; a validation after every third.
@pytest.mark.parametrize(
    ("number", "method", "call", "step"),
    [
        pytest.param(signal.SIGINT, "training_step", 5, 3, id="inside an accumulation"),
        pytest.param(signal.SIGTERM, "validation_step", 1, 1, id="in a validation inside an accumulation"),
        pytest.param(signal.SIGUSR1, "training_step", 11, 6, id="in the last batch of an epoch"),
        pytest.param(signal.SIGHUP, "on_validation_epoch_end", 1, 2, id="at the end of a validation"),
    ],
)
def test_a_stopped_fit_resumes_to_the_same_bits(
    fits: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    method: str,
    call: int,
    step: int,
) -> None:
    monkeypatch.chdir(fits.folder)
    for variable, value in SLURM.items() if number == signal.SIGUSR1 else ():
        monkeypatch.setenv(variable, value)
    name = f"{method}-{call}"
    with pytest.MonkeyPatch.context() as patched:
        disturbed = SignalAtCall(getattr(WandModule, method), number, call)
        patched.setattr(WandModule, method, lambda *args: disturbed(*args))
        assert main(options(name, fits)) == 128 + number
    error = capsys.readouterr().err
    command = re.search(r"stopped by (\w+): saved at step (\d+); go on with: wand (.*)", error)
    assert command is not None, error
    assert command[1] == number.name
    assert int(command[2]) == content(name, "last")["global_step"] == step
    assert main(shlex.split(command[3])) == 0
    assert_equal_runs(name)


def test_before_the_first_step_the_same_command_starts_again(
    fits: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(fits.folder)
    with pytest.MonkeyPatch.context() as patched:
        disturbed = SignalAtCall(WandModule.setup, signal.SIGTERM, 1)
        patched.setattr(WandModule, "setup", lambda *args, **more: disturbed(*args, **more))
        assert main(options("early", fits)) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM: the same command starts again" in capsys.readouterr().err
    assert not list(Path("runs/early").rglob("*.ckpt"))


def test_synthesize_keeps_what_is_spoken_and_goes_on(
    run: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = "runs/quickstart/samples/0-reference.wav"
    texts = ["one.", "two two.", "three."]
    speak = ["synthesize", *texts, "--ckpt_path=runs/quickstart", "--max_seconds=0.3", f"--reference={reference}"]
    assert main([*speak, f"--out={tmp_path}/whole.wav"]) == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(synthesize, "write_audio", SignalAtCall(synthesize.write_audio, signal.SIGINT, 1))
        assert main([*speak, f"--out={tmp_path}/stopped.wav"]) == 128 + signal.SIGINT
    kept = sorted(tmp_path.glob("stopped-*.wav"))
    assert 0 < len(kept) < len(texts)
    command = re.search(r"of 3 texts are spoken; go on with: wand (.*)", capsys.readouterr().err)
    assert command is not None
    assert main(shlex.split(command[1])) == 0
    for number in range(1, len(texts) + 1):
        stopped, whole = (tmp_path / f"{name}-{number:03d}.wav" for name in ("stopped", "whole"))
        assert stopped.read_bytes() == whole.read_bytes(), number


def test_prepare_keeps_its_shards_and_goes_on(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    prepare = ["prepare", "--config=quickstart", *workplace.fit, f"--data.cache_dir={cache}"]
    with pytest.MonkeyPatch.context() as patched:
        disturbed = SignalAtCall(Encoder.__call__, signal.SIGHUP, 20)  # behind the training split
        patched.setattr(Encoder, "__call__", lambda *args: disturbed(*args))
        assert main(prepare) == 128 + signal.SIGHUP
    assert re.search(r"[12] of 3 shards are made and kept in .*; the same command goes on", capsys.readouterr().err)
    (shard,) = cache.glob("*/train-00000.safetensors")
    made = shard.stat().st_mtime_ns
    assert not list(cache.glob("*/.*.partial"))
    assert main(prepare) == 0
    assert shard.stat().st_mtime_ns == made
    assert len(list(cache.glob("*/*.safetensors"))) == 3


def test_a_stopped_test_keeps_the_tables_so_far(
    run: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("runs/quickstart", tmp_path / "copy", ignore=shutil.ignore_patterns("test"))
    small = ["--table.full.sentences=1", "--table.full.seeds=1", "--table.full.windows=[]", "--table.columns=[10]"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluation, "speak_takes", SignalAtCall(evaluation.speak_takes, signal.SIGTERM, 2))
        assert main(["test", f"--ckpt_path={tmp_path}/copy", *small]) == 128 + signal.SIGTERM
    assert "test-unfinished; the same command tests again" in capsys.readouterr().err
    rows = json.loads((tmp_path / "copy" / "test-unfinished" / "table.json").read_text())["rows"]
    assert [row["system"]["name"] for row in rows] == ["teacher"]
    assert rows[0]["speech"]["takes"] == 1
    assert not (tmp_path / "copy" / "test").exists()


def test_a_stopped_closing_test_says_that_the_fit_is_finished(
    fits: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(fits.folder)
    with pytest.MonkeyPatch.context() as patched:
        disturbed = SignalAtCall(WandModule.test_step, signal.SIGINT, 1)
        patched.setattr(WandModule, "test_step", lambda *args: disturbed(*args))
        assert main([*options("tested", fits), "--trainer.max_steps=1"]) == 128 + signal.SIGINT
    command = "the fit is finished, only its closing test is not; go on with: wand test --ckpt_path runs/tested"
    assert command in capsys.readouterr().err


def test_a_job_that_is_queued_again_goes_on_with_its_run(fits: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fits.folder)
    for variable, value in SLURM.items():
        monkeypatch.setenv(variable, value)
    with pytest.MonkeyPatch.context() as patched:
        disturbed = SignalAtCall(WandModule.training_step, signal.SIGUSR1, 5)
        patched.setattr(WandModule, "training_step", lambda *args: disturbed(*args))
        assert main(options("job", fits)) == 128 + signal.SIGUSR1
    assert not list(Path("runs").rglob("hpc_ckpt*"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    resumed_from = []
    with pytest.MonkeyPatch.context() as patched:
        load = WandModule.on_load_checkpoint
        patched.setattr(
            WandModule, "on_load_checkpoint", lambda *args: resumed_from.append(args[1]["global_step"]) or load(*args)
        )
        assert main(options("job", fits)) == 0
    assert resumed_from[0] == 3
    assert [path.name for path in Path("runs").glob("job*")] == ["job"]
    assert_equal_runs("job")
