"""The cost of a large corpus for a training process: ``python -m benchmarks.data --utterances 100000``.

Writes shards of synthetic utterances like those of CosyVoice 2. Then a new process opens them, makes buckets and the
batches of an epoch, and reads random rows. Prints Markdown with times and the private memory of that process.
"""

from __future__ import annotations

import argparse
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

import torch

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
    """Times and memory of one process.

    Args:
        imports_mib: Private memory after the imports.
        start_seconds: Time to open all shards and to make buckets and the loader.
        start_mib: Private memory after the start, minus that of the imports.
        plan_seconds: Time to plan an epoch and to compute the share of padding in its batches.
        rows_mib: Private memory after the random rows, minus that of the imports.
        row_microseconds: Time to read, check and unpack one row.
        batch_milliseconds: Time to read and collate a batch of 16, if the training step takes no time.
    """

    imports_mib: float
    start_seconds: float
    start_mib: float
    plan_seconds: float
    rows_mib: float
    row_microseconds: float
    batch_milliseconds: float


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


def private_mib() -> float:
    """Memory that this process does not share with others, in MiB (Linux only)."""
    lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    return sum(int(line[1]) for line in lines if line[0] in ("Private_Clean:", "Private_Dirty:")) / 1024


def measure(folder: Path, rows: int) -> Measured:
    """Start like a training process, then read random rows."""
    imports, begin = private_mib(), time.perf_counter()
    cache = ShardCache(folder, FINGERPRINT)
    examples = ShardedExamples(cache.files("train"), FINGERPRINT)
    conditioner = CosyVoiceConditioner(ARCHITECTURE)
    loader = BatchLoader(examples, examples.lengths(LAYOUT), conditioner, LAYOUT, BatchBounds(16))
    started, start_mib = time.perf_counter() - begin, private_mib() - imports
    begin = time.perf_counter()
    loader.padding()
    planned = time.perf_counter() - begin
    chosen = random.Random(0).choices(range(len(examples)), k=rows)
    begin = time.perf_counter()
    for i in chosen:
        examples[i]
    read, rows_mib = time.perf_counter() - begin, private_mib() - imports
    batches = iter(loader)
    next(batches)
    begin = time.perf_counter()
    taken = sum(1 for _ in islice(batches, 200))
    collated = time.perf_counter() - begin
    return Measured(imports, started, start_mib, planned, rows_mib, 1e6 * read / rows, 1e3 * collated / taken)


def to_markdown(count: int, size: int, measured: Measured) -> str:
    """The measured values as a table."""
    titles = ["utterances", "bytes each", "start s", "start MiB", "plan s", "rows MiB", "row us", "batch ms"]
    values = [f"{count:,}", f"{size / count:.0f}", f"{measured.start_seconds:.2f}", f"{measured.start_mib:.1f}"]
    values += [f"{measured.plan_seconds:.2f}", f"{measured.rows_mib:.1f}", f"{measured.row_microseconds:.0f}"]
    values += [f"{measured.batch_milliseconds:.2f}"]
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
    print(f"\nPrivate memory does not include that of the imports ({measured.imports_mib:.0f} MiB).")


if __name__ == "__main__":
    main()
