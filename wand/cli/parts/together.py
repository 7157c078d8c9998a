"""The processes of a run start together, agree on its folder, and end together."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from wand.console.interrupt import stop_only_together
from wand.deadline import Deadline
from wand.ranks import first_decides, gather, is_first, rank_and_world
from wand.training.module import WandModule

# Seconds that a network file system may take to show a new file on another machine.
VISIBLE_AFTER = 10.0
# Seconds that this process may take to notice by itself that a process it has started has ended.
NOTICED_AFTER = 30.0


def start_processes(trainer: Trainer, module: WandModule) -> None:
    """Start the processes of a trainer, as far as they do not run yet, and connect them.

    The trainer would do the same later, but then a run folder already has to be chosen.

    Raises:
        ValueError: If the strategy forks or spawns processes from this one.
    """
    strategy, launcher = trainer.strategy, trainer.strategy.launcher
    strategy.connect(module)
    if launcher is None:
        strategy.setup_environment()
    elif isinstance(launcher, _SubprocessScriptLauncher):
        own = Launcher(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        strategy._launcher = own
        own.launch(strategy.setup_environment, trainer=trainer)
    else:
        raise ValueError(
            "trainer.strategy: processes that are forked or spawned from this one are not supported: write ddp"
        )
    stop_only_together(rank_and_world()[1] > 1)


class Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine, as Lightning does, but lets this process end as it should.

    Lightning kills this process when another one has ended with an error, also with the status of a signal. Here it has
    time to save, to report, and to end with its own status. Only if it cannot, it is ended.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other processes, unless they run already, and call the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=self._watch, daemon=True, name="wand-launcher").start()
        return function(*args, **kwargs)

    def _watch(self) -> None:
        """End this process some time after another one has ended with an error."""
        while not (failed := [one for one in self.procs if one.poll()]):
            time.sleep(1)
        time.sleep(NOTICED_AFTER)
        with suppress(OSError):
            print(f"wand: error: {_ended(failed[0])}: this process ends too", file=sys.stderr, flush=True)
        self.kill(signal.SIGKILL)
        os._exit(1)


def _ended(process: subprocess.Popen[bytes]) -> str:
    return f"process {process.pid}, which this one has started, has ended with status {process.returncode}"


def agree_on_checkpoint(checkpoint: Path | None) -> None:
    """Check that all processes read the same checkpoint.

    Raises:
        ValueError: If ``--ckpt_path last`` means another run for some process.
    """
    first = first_decides(checkpoint)
    other = next((one for one in gather(checkpoint) if one != first), first)
    if other != first:
        raise ValueError(f"the processes have found two checkpoints, {first} and {other}: name one in --ckpt_path")


def agree_on_folder(folder: Path | None) -> Path | None:
    """The run folder that rank 0 has chosen, in every process.

    Raises:
        ValueError: If a machine cannot see the folder.
    """
    folder, token = first_decides((folder, f".{secrets.token_hex(8)}"))
    if folder is None or rank_and_world()[1] == 1:
        return folder
    file = folder / token
    if is_first():
        file.touch()
    gather(None)  # the file exists now
    seen = gather((socket.gethostname(), _appears(file)))
    if is_first():
        file.unlink()
    blind = [f"process {rank} on {host}" for rank, (host, sees) in enumerate(seen) if not sees]
    if blind:
        if is_first():
            with suppress(OSError):  # it may belong to a run that goes on
                folder.rmdir()
        raise ValueError(
            f"{blind[0]} cannot see the run folder {folder}: start all processes in a folder that all machines share"
        )
    return folder


def _appears(file: Path) -> bool:
    limit = Deadline(VISIBLE_AFTER)
    while not file.exists():
        if not limit.left():
            return False
        time.sleep(0.1)
    return True
