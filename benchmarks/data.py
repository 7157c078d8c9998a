"""The cost of a large corpus for a training process: ``python -m benchmarks.data --utterances 100000``.

Writes shards of synthetic utterances like those of CosyVoice 2. Then a new process opens them, makes buckets, begins an
epoch, and reads random rows. Prints Markdown with times and the private memory of that process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.private_memory import private_mib
from wand.backbones.cosyvoice.conditioner import CosyVoiceArchitecture, CosyVoiceConditioner
from wand.data.batching import BatchBounds, BatchLoader
from wand.data.example import Example
from wand.data.prepare import UTTERANCES_PER_SHARD, ShardCache
from wand.data.shards import ShardedExamples, write_shard
from wand.model.columns import ColumnLayout

FINGERPRINT = "synthetic"
ARCHITECTURE = CosyVoiceArchitecture()
LAYOUT = ColumnLayout(1, ARCHITECTURE.speech_tokens, ARCHITECTURE.speech_tokens + 1)
WORDS = ("every", "word", "is", "heard", "through", "a", "small", "window", "and", "nothing", "of", "it", "is", "lost")
# Range of frequent ids and of all ids in the text tokenizer; two of three ids are drawn from the frequent ones.
FREQUENT, VOCABULARY = 20_000, 151_643
# Number of shards with utterances of their own: about 100,000 utterances.
DISTINCT = 391


@dataclass(frozen=True)
class Measured:
    """Times and memory of one process. Memory is private; times are of the processor and of the clock, in seconds.

    Args:
        imports_mib: After the imports of a fit.
        start_mib: After the start, above that of the imports.
        start: Time to open all shards and to make buckets and the loader.
        plan: Time to plan an epoch and to compute the share of padding in its batches.
        epoch_mib: After 200 batches of an epoch, above that of the imports.
        batch: Time to read and collate a batch of 16, if the training step takes no time.
        rows_mib: After the random rows, above that of the imports.
        row: Time to read, check and unpack one row.
    """

    imports_mib: float
    start_mib: float
    start: tuple[float, float]
    plan: tuple[float, float]
    epoch_mib: float
    batch: tuple[float, float]
    rows_mib: float
    row: tuple[float, float]


def now() -> np.ndarray:
    """Time of the processor and of the clock, in seconds."""
    return np.array([time.process_time(), time.perf_counter()])


def utterances(count: int, seed: int = 0) -> Iterator[Example]:
    """Texts of 5 to 30 tokens, references of 2 to 10 s with their texts, speech of 1 to 15 s; 25 codes per second."""
    conditioner = CosyVoiceConditioner(ARCHITECTURE)
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def codes(frames: int) -> torch.Tensor:
        return torch.randint(0, ARCHITECTURE.speech_tokens, (frames,), generator=generator)

    def ids(tokens: int) -> list[int]:
        return [rng.randrange(FREQUENT if rng.random() < 2 / 3 else VOCABULARY) for _ in range(tokens)]

    for i in range(count):
        tokens = rng.randint(5, 30)
        conditioning = conditioner.prefix(ids(rng.randint(5, 30)), ids(tokens), codes(rng.randint(50, 250)))
        text = " ".join(rng.choices(WORDS, k=tokens))
        speech = codes(rng.randint(25, 375))[None]
        yield Example(f"train/{i // 100}/{i:08d}", text, f"speaker-{i % 997}", conditioning, speech, f"train/{i:08d}")


def write_cache(folder: Path, count: int, split: str = "train") -> ShardCache:
    """Write shards of synthetic utterances, unless they exist; beyond `DISTINCT`, whole shards are copies."""
    cache = ShardCache(folder, FINGERPRINT)
    folder.mkdir(parents=True, exist_ok=True)
    if cache.finished().get(split) != count:
        made = utterances(count)
        for index, path in enumerate(cache.shards(split, count)):
            size = min(UTTERANCES_PER_SHARD, count - index * UTTERANCES_PER_SHARD)
            if index >= DISTINCT and size == UTTERANCES_PER_SHARD:
                shutil.copyfile(cache.shard(split, index % DISTINCT), path)
            else:
                write_shard(path, list(islice(made, size)), FINGERPRINT, CosyVoiceConditioner(ARCHITECTURE).length)
        cache.finish({split: count})
    return cache


def measure(folder: Path, rows: int) -> Measured:
    """Start like a training process, begin an epoch, then read random rows."""
    importlib.import_module("wand.cli.training")
    imports, begin = private_mib(), now()
    cache = ShardCache(folder, FINGERPRINT)
    examples = ShardedExamples(cache.files("train"), FINGERPRINT)
    conditioner = CosyVoiceConditioner(ARCHITECTURE)
    loader = BatchLoader(examples, examples.lengths(LAYOUT), conditioner, LAYOUT, BatchBounds(16))
    start, start_mib = now() - begin, private_mib() - imports
    begin = now()
    loader.padding()
    plan = now() - begin
    batches = iter(loader)
    next(batches)
    begin = now()
    taken = sum(1 for _ in islice(batches, 200))
    batch, epoch_mib = (now() - begin) / taken, private_mib() - imports
    chosen = random.Random(0).choices(range(len(examples)), k=rows)
    begin = now()
    for i in chosen:
        examples[i]
    row, rows_mib = (now() - begin) / rows, private_mib() - imports
    times = {"start": start, "plan": plan, "batch": batch, "row": row}
    return Measured(imports, start_mib, epoch_mib=epoch_mib, rows_mib=rows_mib, **{k: (*v,) for k, v in times.items()})


def to_markdown(count: int, size: int, measured: Measured) -> str:
    """The measured values as a table."""
    titles = ["utterances", "bytes each", "start, s", "plan, s", "start, MiB", "epoch, MiB", "rows, MiB"]
    values = [f"{count:,}", f"{size / count:.0f}"]
    values += ["{:.2f} ({:.2f})".format(*times) for times in (measured.start, measured.plan)]
    values += [f"{mib:.1f}" for mib in (measured.start_mib, measured.epoch_mib, measured.rows_mib)]
    for title, times in (("row, ms", measured.row), ("batch, ms", measured.batch)):
        titles.append(title)
        values.append("{:.2f} ({:.2f})".format(*(1000 * seconds for seconds in times)))
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), values))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000, help="size of the corpus (default: 100000)")
    parser.add_argument("--rows", type=int, default=10_000, help="number of random rows to read (default: 10000)")
    parser.add_argument("--folder", type=Path, help="folder for the shards (default: a temporary folder)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(asdict(measure(arguments.folder, arguments.rows))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        cache = write_cache(folder, arguments.utterances)
        size = sum(path.stat().st_size for path in cache.files("train"))
        command = [sys.executable, "-m", "benchmarks.data", "--measure", "--folder", str(folder)]
        made = subprocess.run([*command, "--rows", str(arguments.rows)], check=True, capture_output=True, text=True)
        measured = Measured(**json.loads(made.stdout.splitlines()[-1]))
    print(to_markdown(arguments.utterances, size, measured))
    print("\nTimes are those of the processor, in brackets those of the clock.")
    print(f"Private memory is that above the imports of a fit, which take {measured.imports_mib:.0f} MiB.")


if __name__ == "__main__":
    main()
