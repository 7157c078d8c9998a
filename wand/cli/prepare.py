"""`wand prepare`: the training data of a config, made and reported before any training."""

from __future__ import annotations

from rich.console import Console

from wand.cli.training import main as build
from wand.data.datamodule import SpeechDataModule
from wand.data.prepare import ShardCache


def main(arguments: list[str]) -> ShardCache:
    """Make the shards that a fit with the same options would make (or check them), and say where they are."""
    cli = build("prepare", arguments)
    data, backbone = cli.datamodule, cli.model.backbone
    assert isinstance(data, SpeechDataModule)
    cache = data.check_for(backbone) if cli.config["check"] else data.prepare_for(backbone)
    Console().print(f"ready in {cache.folder}", highlight=False, soft_wrap=True)
    return cache
