"""`wand prepare`: make the training data of a config before any training, and report on it."""

from __future__ import annotations

from rich.console import Console

from wand.cli.training import main as build
from wand.data.datamodule import SpeechDataModule
from wand.data.prepare import ShardCache


def main(arguments: list[str]) -> ShardCache:
    """Make (or check) the shards that a fit with the same options uses, and print their folder.

    Shards that exist are read as a whole, and the damaged ones are made again.
    """
    cli = build("prepare", arguments)
    data, backbone = cli.datamodule, cli.model.backbone
    assert isinstance(data, SpeechDataModule)
    cache = data.check_for(backbone) if cli.config["check"] else data.prepare_for(backbone, thorough=True)
    Console().print(f"ready in {cache.folder}", highlight=False, soft_wrap=True)
    return cache
