"""The check of a cache: whether every byte is as it was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from wand.console.progress import progress
from wand.data.prepare import ShardCache
from wand.data.shards import Shard
from wand.data.sources.source import SPLITS


def mend_cache(cache: ShardCache, splits: Sequence[str] = SPLITS) -> None:
    """Read all shards that exist and remove the damaged ones, so that a preparation makes them again.

    Raises:
        ValueError: If a damaged shard cannot be removed.
    """
    finished = cache.finished()
    files = [file for split in splits if split in finished for file in cache.files(split) if file.is_file()]
    for file, _ in _damaged(cache, files):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise ValueError(
                f"shard {file} is damaged and cannot be removed ({error.strerror}): set --data.cache_dir to another "
                f"folder"
            ) from error
        Console().print(f"shard {file} is damaged: it is made again", highlight=False, soft_wrap=True)


def check_cache(cache: ShardCache, splits: Sequence[str] = SPLITS) -> None:
    """Read all shards, then print a line for every damaged shard and a summary.

    Args:
        cache: The cache.
        splits: The splits to read.

    Raises:
        ValueError: If a shard is damaged or missing, or a split has not been prepared.
    """
    files = [file for split in splits for file in cache.files(split)]
    damaged = _damaged(cache, files)
    for _, error in damaged:
        print(error)
    if damaged:
        raise ValueError(
            f"{len(damaged)} of {len(files)} shards in {cache.folder} are damaged: delete them, or run `wand prepare`, "
            f"which makes them again"
        )
    utterances = sum(len(Shard(file, cache.fingerprint)) for file in files)
    Console().print(f"{len(files)} shards with {utterances} utterances are undamaged", highlight=False)


def _damaged(cache: ShardCache, files: Sequence[Path]) -> list[tuple[Path, ValueError]]:
    """The shards that cannot be read as they were written, each with its error."""
    found = []
    with progress("checking shards", len(files), "shards") as checked:
        for file in files:
            try:
                Shard(file, cache.fingerprint).check()
            except ValueError as error:
                if isinstance(error.__cause__, PermissionError):
                    raise
                found.append((file, error))
            checked.advance()
    return found
