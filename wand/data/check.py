"""The check of a cache: whether every byte is as it was written."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from wand.console.progress import progress
from wand.data.prepare import ShardCache
from wand.data.shards import Shard
from wand.data.sources.source import SPLITS


def check_cache(cache: ShardCache, splits: Sequence[str] = SPLITS) -> None:
    """Read all shards, then print a line for every damaged shard and a summary.

    Args:
        cache: The cache.
        splits: The splits to read.

    Raises:
        ValueError: If a shard is damaged or missing, or a split has not been prepared.
    """
    files = [file for split in splits for file in cache.files(split)]
    utterances = damaged = 0
    with progress("checking shards", len(files), "shards") as checked:
        for file in files:
            try:
                shard = Shard(file, cache.fingerprint)
                shard.check()
                utterances += len(shard)
            except ValueError as error:
                damaged += 1
                print(error)
            checked.advance()
    if damaged:
        raise ValueError(
            f"{damaged} of {len(files)} shards in {cache.folder} are damaged: delete them and run `wand prepare` to "
            f"make them again"
        )
    Console().print(f"{len(files)} shards with {utterances} utterances are undamaged", highlight=False)
