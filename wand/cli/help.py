"""The help of the training commands: wand's own settings first, Lightning's on request."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

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
# Sections whose settings are Lightning's own; only `--help_all` shows them.
LIGHTNING = ("trainer", "checkpoint", "last_checkpoint")
# Texts of options that Lightning and jsonargparse add.
TEXTS = {
    "--config": "Config: a YAML file, or the name of a config that comes with wand. Later ones overrule earlier ones.",
    "--print_config": "Print the config that results from all files and options, and exit.",
    "--seed_everything": "Seed of all random numbers; `true` draws one, `false` sets none.",
    "--ckpt_path": "Checkpoint to start from: a run folder (its last checkpoint), a checkpoint file, or `last` for the "
    "newest run.",
    "--weights_only": argparse.SUPPRESS,  # has no effect here, but stands in the configs of runs
}


class HelpAll(argparse._HelpAction):
    """Prints the help with all sections and exits."""

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
    """A parser whose `--help` shows wand's own sections, and whose `--help_all` adds those of Lightning."""

    shows_all = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument(
            "--help_all",
            action=HelpAll,
            help="Show all settings, with those of Lightning's trainer and of the checkpoints, and exit.",
        )

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help; its sections follow the order of `TITLES`, and those that are not named there come last."""
        groups: dict[str, Any] = self.groups or {}
        self.usage = f"{self.prog.replace(' [options]', '')} [--config NAME] [options]"
        for action in self._actions:
            action.help = next((TEXTS[name] for name in action.option_strings if name in TEXTS), action.help)
            if action.dest in groups and not self.shows_all:  # reads the settings of one section from a file
                action.help = argparse.SUPPRESS
        self._optionals.title = "Run"
        order = {root: place for place, root in enumerate(TITLES)}
        names = sorted(groups, key=lambda name: order.get(_root(name), len(order)))
        for name in names:
            groups[name].title = title(name)
        shown: list[Any] = [self._optionals, *(groups[name] for name in names if _root(name) not in LIGHTNING)]
        rest = [group for group in self._action_groups if group not in shown]
        self._action_groups = [*shown, *(rest if self.shows_all else [])]
        return super().format_help(*args, **kwargs)


def title(name: str) -> str:
    """Title of a section: ``table`` is "Test table", ``model.loss``, which has no title of its own, "Model: loss"."""
    above, _, last = name.rpartition(".")
    words = last.replace("_", " ")
    return TITLES.get(name) or (f"{title(above)}: {words}" if above else words.capitalize())


def _root(name: str) -> str:
    return name.partition(".")[0]
