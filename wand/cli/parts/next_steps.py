"""What to try with a run when its fit has finished."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from wand.runs.trust import flag_for
from wand.training.module import WandModule
from wand.training.teacher import COPY, SELF


def next_steps(folder: Path, module: WandModule, alone: str = "") -> str:
    """Commands to try with a run: those that work with its codec, its teacher and its files.

    Args:
        folder: The run folder.
        module: The run's module.
        alone: Options that a command in one process needs besides.
    """
    run = shlex.quote(os.path.relpath(folder))
    export = shlex.quote(os.path.relpath(folder / "export"))
    opened = f"--ckpt_path {run}{flag_for(folder)}"
    commands = []
    if any(folder.glob("events.out.tfevents.*")):
        commands.append(f"tensorboard --logdir {shlex.quote(os.path.relpath(folder.parent))}")
    backbone, teacher = module.backbone, module.settings.teacher
    if backbone.find_codec() is not None:
        sample = folder / "samples" / "0-reference.wav"
        reference = shlex.quote(os.path.relpath(sample)) if sample.is_file() else "YOUR_VOICE.wav"
        speak = f'wand synthesize "every word is heard through a small window." {opened} --reference {reference}'
        commands.append(f"{speak} --out student.wav")
        if teacher is not None and (teacher not in (COPY, SELF) or backbone.pretrained is not None):
            commands.append(f"{speak} --system teacher --out teacher.wav")
    commands.append(f"wand test {opened}{alone}")
    if module.settings.window is not None:
        commands.append(f"wand export {opened} --out {export}")
    lines = [f"The run is in {run}. Next:", *(f"  {command}" for command in commands)]
    if backbone.find_codec() is None:
        lines.append("The run has no codec (data.codec), so it speaks codes, not sound: wand.load(run, codec=...)")
    return "\n" + "\n".join(lines) + "\n"
