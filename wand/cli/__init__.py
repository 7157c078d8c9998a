"""The `wand` command. It dispatches to a subcommand and imports only what that subcommand needs."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution

from wand.console.interrupt import Interrupted, handling_signals, report
from wand.moved import say_where
from wand.version import __version__

USAGE = f"""wand {__version__}: windowed attention for pretrained autoregressive text-to-speech models

usage: wand COMMAND [options]          wand COMMAND --help lists the options of a command

commands:
  prepare      make the training data of a config:  wand prepare --config FILE
  fit          adapt a model:                       wand fit --config quickstart
  validate     measure a run on the validation split
  test         compare teacher, untrained window and student on the test split
  evaluate     compare runs and exports on a list of sentences, with several seeds: wand evaluate RUN [MORE ...]
  analyze      measure where attention goes, and which windows cover it: wand analyze --ckpt_path RUN
  align        find the attention head that follows the text, for passages: wand align --ckpt_path RUN
  report       write a page to read and to listen to:  wand report RUN
  synthesize   speak a text:                        wand synthesize "some text" --reference voice.wav --out out.wav
  serve        speak over HTTP, with OpenAI's interface: wand serve --ckpt_path RUN --voices FOLDER
  benchmark    measure time, memory and FLOPs of a decoding step: wand benchmark --shape cosyvoice2
  export       write a student in the format of its original model: wand export --ckpt_path RUN --out FOLDER
  backbones    list the models that can be adapted

--ckpt_path takes a run folder, a checkpoint file, or `last` (the newest run).
--trust lets a run that your own `wand fit` did not write start the code that it names (docs/security.md).
Errors are printed in one line. Set WAND_TRACEBACK=1 to see the traceback.
"""

FLAG = "--trust"
FLAG_HELP = "let a run that your own `wand fit` did not write start the code that it names (docs/security.md)"
# What helps against errors of the system, by their number.
REMEDIES = {
    errno.ENOSPC: ": free some space, or write to another disk",
    errno.EDQUOT: ": free some space, or write to another disk",
    errno.EACCES: ": choose a file or folder that you may use",
    errno.EPERM: ": choose a file or folder that you may use",
    errno.EROFS: ": choose a folder on another disk",
    errno.EMFILE: ": raise the limit of open files with ulimit -n",
}
TRAINING = ("fit", "validate", "test")
# Each is the `main` of a module of this folder.
COMMANDS = ("prepare", "evaluate", "analyze", "align", "report", "synthesize", "serve", "benchmark", "export")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0, 2 after an error that the user can fix (a value, a file, the disk), or 128 + the signal that
        stopped the command.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if arguments[0] == "--version":
        print(f"wand {__version__}")
        return 0
    _warn_of_namesake()
    try:
        with handling_signals():
            if FLAG not in arguments:
                return _run(arguments[0], arguments[1:])
            from wand.runs.trust import trusting

            with trusting():
                return _run(arguments[0], arguments[1:])
    except Interrupted as stopped:
        report(stopped)
        return stopped.status
    except (ValueError, OSError) as error:
        if os.environ.get("WAND_TRACEBACK"):
            raise
        print("wand: error:", _in_words(error), file=sys.stderr)
        return 2


def _in_words(error: ValueError | OSError) -> str:
    """One line. Errors of the system, such as a full disk, name the file and what to do."""
    if not isinstance(error, OSError) or error.errno is None:
        return say_where(" ".join(str(error).split()))
    remedy = REMEDIES.get(error.errno, "")
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror}{remedy}"


def _run(command: str, rest: list[str]) -> int:
    if command in TRAINING:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else torch reports a lost connection with its C++ stack
        from wand.cli.training import main as run_training

        run_training(command, rest)
    elif command in COMMANDS:
        importlib.import_module(f"wand.cli.{command}").main(rest)
    elif command == "backbones":
        from wand.registry import known_backbones

        for name, module in sorted(known_backbones().items()):
            print(f"{name:20} {module}")
    else:
        known = ", ".join((*TRAINING, *COMMANDS, "backbones"))
        raise ValueError(f"unknown command {command!r}: the commands are {known}")
    return 0


def _warn_of_namesake() -> None:
    """Warn if ImageMagick's binding `Wand` is installed, which has the same import name."""
    try:
        distribution("Wand")
    except PackageNotFoundError:
        return
    print(
        "wand: warning: ImageMagick's binding `Wand` is also installed and has the same import name, so one of the "
        "two will break: use separate environments",
        file=sys.stderr,
    )
