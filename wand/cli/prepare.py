"""`wand prepare`: make the training data of a config before any training, and report on it."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from wand.cli.training import WandCLI
from wand.cli.training import main as build
from wand.data.datamodule import SpeechDataModule
from wand.data.prepare import ShardCache
from wand.data.sources.source import SPLITS
from wand.files.turns import ALL, Task


class PrepareCLI(WandCLI):
    """The options of a fit, and those of a preparation."""

    task = ALL

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--check`` and ``--shard``."""
        parser.add_argument(
            "--check",
            action="store_true",
            help="Read every utterance of the source and every byte of the existing shards, and name what cannot be "
            "used. Makes no data.",
        )
        parser.add_argument(
            "--shard",
            type=str,
            default=str(ALL),
            help="`2/8` is the second of eight commands that share the work, on one machine or on several: it makes "
            "every eighth shard. The one that finishes last reports on all.",
        )
        super().add_arguments_to_parser(parser)

    def before_instantiate_classes(self) -> None:
        """Refuse a task that does not exist before a model is made."""
        self.task = Task.parse(self.config["shard"])
        if self.config["check"] and self.task != ALL:
            raise ValueError("--check reads the whole corpus: leave out --shard")


def main(arguments: list[str]) -> ShardCache:
    """Make (or check) the shards that a fit with the same options uses, and print their folder when all are there.

    Shards that exist are read as a whole, and the damaged ones are made again.
    """
    cli = build("prepare", arguments, PrepareCLI)
    data, backbone = cli.datamodule, cli.model.backbone
    assert isinstance(cli, PrepareCLI)
    assert isinstance(data, SpeechDataModule)
    if cli.config["check"]:
        cache = data.check_for(backbone)
    else:
        cache = data.prepare_for(backbone, thorough=True, task=cli.task)
    if cache.is_finished(SPLITS):
        print(f"ready in {cache.folder}", flush=True)
    return cache
