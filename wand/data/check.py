"""The checks of `wand prepare --check`: every utterance of a corpus and every byte of its cache, without a codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from wand.console.progress import progress
from wand.data.encoding import Checker, in_processes
from wand.data.example import Refusal
from wand.data.prepare import ShardCache
from wand.data.report import show_report
from wand.data.shards import Shard
from wand.data.sources.source import SPLITS, SpeechSource
from wand.data.sources.teacher_samples import TeacherSamples
from wand.data.validate import SpeechLimits
from wand.files.turns import ALL, Task
from wand.model.backbone import Backbone

# Number of utterances that cannot be used whose reason is printed in full.
SHOWN = 20


def check_source(source: SpeechSource, backbone: Backbone, workers: int = 2, max_seconds: float = 30.0) -> None:
    """Read every utterance of a corpus, and print which cannot be used and why. Nothing is encoded or written.

    For `TeacherSamples`, the prompts are read.

    Args:
        source: The corpus.
        backbone: The model whose codes and rates count.
        workers: Number of processes that read; 0 does it in this process.
        max_seconds: Longest recording to use, in seconds. Prompts may be longer.
    """
    prompts = isinstance(source, TeacherSamples)
    corpus = source.prompts if isinstance(source, TeacherSamples) else source
    todo = {split: utterances for split in SPLITS if (utterances := corpus.utterances(split))}
    limits = SpeechLimits.of(backbone, math.inf if prompts else max_seconds, prompts)
    usable: dict[str, int] = dict.fromkeys(todo, 0)
    seconds: dict[str, float] = dict.fromkeys(todo, 0.0)
    refused: list[tuple[str, Refusal]] = []
    total = sum(map(len, todo.values()))
    with (
        progress("checking speech", total, "utterances") as checked,
        in_processes(Checker(corpus, limits), workers) as check,
    ):
        for split, utterances in todo.items():
            for found in check(utterances):
                if isinstance(found, Refusal):
                    refused.append((split, found))
                else:
                    usable[split] += 1
                    seconds[split] += found
                checked.advance()
    for split, refusal in refused[:SHOWN]:
        print(f"{split} {refusal.id}: {refusal.detail}")
    if len(refused) > SHOWN:
        print(f"... and {len(refused) - SHOWN} more")
    show_report(usable, seconds, refused)


def mend_cache(cache: ShardCache, splits: Sequence[str] = SPLITS, task: Task = ALL) -> None:
    """Read all shards of a task that exist and remove the damaged ones, so that a preparation makes them again.

    Raises:
        ValueError: If a damaged shard cannot be removed.
    """
    finished = cache.finished()
    files = task.own([file for split in splits if split in finished for file in cache.files(split)])
    for file, _ in _damaged(cache, [file for file in files if file.is_file()]):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise ValueError(
                f"shard {file} is damaged and cannot be removed ({error.strerror}): set --data.cache_dir to another "
                f"folder"
            ) from error
        print(f"shard {file} is damaged: it is made again", flush=True)


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
    print(f"{len(files)} shards with {utterances} utterances are undamaged", flush=True)


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
