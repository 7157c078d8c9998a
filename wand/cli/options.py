"""The parser of commands without a config, and checks that need nothing but the options."""

from __future__ import annotations

import argparse
from typing import NoReturn


class OptionParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of all commands.

    Args:
        prog: The command, such as ``wand synthesize``.
        description: What the command does.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)

    def error(self, message: str) -> NoReturn:
        """Raise the error as a `ValueError`."""
        raise ValueError(f"{message}: `{self.prog} --help` lists the options")
