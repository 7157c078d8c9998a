"""The help of the training commands: wand's own settings first, Lightning's only with `--help_all`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from wand.cli import FLAG, FLAG_HELP

# Titles of the sections, in the order in which they are shown.
TITLES = {
    "fit": "Checkpoint",
    "validate": "Checkpoint",
    "test": "Checkpoint",
    "model": "Model",
    "data": "Data",
    "curriculum": "Window curriculum",
    "speech": "Spoken validation sentences",
    "table": "Test table",
    "table.full": "Test table of `wand test`",
    "table.closing": "Test table at the end of a fit",
    "trainer": "Trainer (Lightning)",
    "checkpoint": "Best checkpoint (Lightning)",
    "last_checkpoint": "Last checkpoint (Lightning)",
}
# Sections that only `--help_all` shows: Lightning's own settings, and the second copy of the size of a test.
LONG = ("trainer", "checkpoint", "last_checkpoint", "table.closing")
# Texts of options that Lightning and jsonargparse add.
TEXTS = {
    "--config": "A YAML file, or the name of a config that comes with wand. Later configs override earlier ones.",
    "--print_config": "Print the resulting config and exit.",
    "--seed_everything": "Random seed; `true` draws one, `false` sets none.",
    "--ckpt_path": "Checkpoint to start from: a run folder (its last one), a file, or `last` (the newest run).",
    "--weights_only": argparse.SUPPRESS,  # has no effect, but the configs of runs contain it
}
CLASS_HELP = "Show the settings of this class and exit."


class HelpAll(argparse._HelpAction):
    """Print the help with all sections and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print and exit."""
        assert isinstance(parser, HelpParser)
        parser.shows_all = True
        super().__call__(parser, namespace, values, option_string)


class HelpParser(LightningArgumentParser):
    """A parser whose `--help` shows wand's own sections. Its `--help_all` adds the others."""

    shows_all = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument(
            "--help_all",
            action=HelpAll,
            help="Show all settings, Lightning's included, and exit.",
        )
        self.add_argument(FLAG, action="store_true", default=argparse.SUPPRESS, help=f"{FLAG_HELP.capitalize()}.")

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Format the help. Sections come in the order of `TITLES`; other sections come last."""
        groups: dict[str, Any] = self.groups or {}
        self.usage = f"{self.prog.replace(' [options]', '')} [--config NAME] [options]"
        for action in self._actions:
            action.help = next((TEXTS[name] for name in action.option_strings if name in TEXTS), action.help)
            if action.dest.endswith(".help"):
                action.help = CLASS_HELP
            if action.dest in groups and not self.shows_all:  # reads the settings of one section from a file
                action.help = argparse.SUPPRESS
        self._optionals.title = "Run"
        order = {root: place for place, root in enumerate(TITLES)}
        names = sorted(groups, key=lambda name: order.get(_root(name), len(order)))
        for name in names:
            groups[name].title = title(name)
        shown: list[Any] = [self._optionals, *(groups[name] for name in names if not {name, _root(name)} & set(LONG))]
        rest = [group for group in self._action_groups if group not in shown]
        self._action_groups = [*shown, *(rest if self.shows_all else [])]
        return super().format_help(*args, **kwargs)


def title(name: str) -> str:
    """Title of a section: "Test table" for ``table``; "Model: loss" for ``model.loss``, which is not in `TITLES`."""
    above, _, last = name.rpartition(".")
    words = last.replace("_", " ")
    return TITLES.get(name) or (f"{title(above)}: {words}" if above else words.capitalize())


def _root(name: str) -> str:
    return name.partition(".")[0]
