"""The parser of commands without a config, and checks that need nothing but the options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

import torch

from wand.attention import AttentionWindow

# Dtypes of weights.
DTYPES = ("float32", "bfloat16", "float16")


class OptionParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of all commands.

    Args:
        prog: The command, such as ``wand synthesize``.
        description: What the command does.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)

    def add_device(self) -> None:
        """Add the option ``--device``: the first GPU by default, or else the CPU."""
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self.add_argument("--device", default=default, help="torch device (default: %(default)s)")

    def error(self, message: str) -> NoReturn:
        """Raise the error as a `ValueError`."""
        raise ValueError(f"{message}: `{self.prog} --help` lists the options")


def parse_window(text: str) -> int | str:
    """The value of ``--window``: a number of speech columns, or the path of a file with a window for each layer.

    Raises:
        ValueError: If it is neither.
    """
    try:
        size = int(text)
    except ValueError as error:
        if Path(text).is_file():
            return text
        raise ValueError(
            f"--window {text!r} is neither a number of speech columns nor a YAML file with a window for each layer"
        ) from error
    AttentionWindow(size)
    return size
