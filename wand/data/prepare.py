"""Preparation turns a corpus into shards: speech becomes codes, text and references become conditioning.

It is deterministic and restartable. Shard i always covers the same utterances, an undamaged shard is not made again,
and a lock for each shard lets several processes share the work. Utterances that cannot be used are left out and
reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

from wand.codecs import Codec
from wand.console.interrupt import Interrupted
from wand.console.progress import progress
from wand.data.encoding import Encoder, check_length, in_processes, is_coded, make_example, stop_second_import
from wand.data.example import Example, Refusal
from wand.data.fingerprint import cache_fingerprint
from wand.data.references import References
from wand.data.report import write_report
from wand.data.shards import Shard, write_shard
from wand.data.sources.source import SPLITS, NamedCodes, SpeechCodes, SpeechSource, Utterance
from wand.data.sources.teacher_samples import TeacherSamples, TeacherSpeech
from wand.data.validate import SpeechLimits
from wand.files.remote import RemoteFolder
from wand.files.turns import ALL, Task, take_turns
from wand.files.writing import remove_partial_files, replacing, write_text
from wand.model.backbone import Backbone

UTTERANCES_PER_SHARD = 256
FINISHED = "splits.json"


@dataclass(frozen=True)
class ShardCache:
    """The shards of one corpus for one conditioner and codec: ``root/<fingerprint>/<split>-00000.safetensors``.

    Args:
        folder: Folder of the shards.
        fingerprint: Digest of everything that determines the shards.
    """

    folder: Path
    fingerprint: str

    def shard(self, split: str, index: int) -> Path:
        """The file of one shard."""
        return self.folder / f"{split}-{index:05d}.safetensors"

    def shards(self, split: str, utterances: int) -> list[Path]:
        """All shard files of a split with that many utterances."""
        return [self.shard(split, i) for i in range(-(-utterances // UTTERANCES_PER_SHARD))]

    def finished(self) -> dict[str, int]:
        """Number of utterances of every split that is prepared completely; utterances left out count too."""
        path = self.folder / FINISHED
        try:
            return _read_splits(path.read_bytes())
        except PermissionError as error:
            raise ValueError(
                f"{path} cannot be read ({error.strerror}): ask its owner for the right to read it, or set "
                f"--data.cache_dir to another folder"
            ) from error
        except OSError:
            return {}  # the next preparation writes it again

    def finish(self, utterances: dict[str, int]) -> None:
        """Record that some splits are prepared completely."""
        splits = {**self.finished(), **utterances}
        write_text(self.folder / FINISHED, json.dumps({"splits": splits, "crc32": _checksum(splits)}))

    def files(self, split: str) -> list[Path]:
        """All shard files of a split.

        Raises:
            ValueError: If the split is not prepared completely.
        """
        finished = self.finished()
        if split not in finished:
            raise ValueError(f"no finished preparation of {split} in {self.folder}: run `wand prepare`")
        return self.shards(split, finished[split])

    def holds(self, path: Path) -> bool:
        """Whether a shard exists and its index is undamaged.

        Raises:
            ValueError: If the user has no right to read it.
        """
        try:
            Shard(path, self.fingerprint)
        except ValueError as error:
            if isinstance(error.__cause__, PermissionError):
                raise
            return False
        return True

    def is_finished(self, splits: Sequence[str]) -> bool:
        """Whether some splits have been prepared completely. Shards may have been damaged or lost since."""
        return {*splits} <= self.finished().keys()

    def is_complete(self, splits: Sequence[str], task: Task = ALL) -> bool:
        """Whether some splits have been prepared completely, and all shards of a task exist."""
        if not self.is_finished(splits):
            return False
        return all(map(self.holds, task.own([file for split in splits for file in self.files(split)])))


def _read_splits(content: bytes) -> dict[str, int]:
    """Number of utterances of every finished split; empty if the file is damaged."""
    try:
        found = json.loads(content)
        splits = {split: int(count) for split, count in found["splits"].items()}
        return splits if found["crc32"] == _checksum(splits) else {}
    except (ValueError, KeyError, AttributeError, TypeError):
        return {}


def _checksum(splits: dict[str, int]) -> int:
    return crc32(json.dumps(splits, sort_keys=True).encode())


def codec_for(source: SpeechSource, backbone: Backbone) -> Codec | None:
    """The codec that a preparation needs; None if the corpus contains codes, or none are needed.

    Raises:
        ValueError: If a codec is needed but not available.
    """
    if is_coded(source) or (isinstance(source, TeacherSamples) and not backbone.reads_references):
        return None
    return backbone.load_codec()


def shard_cache(source: SpeechSource, backbone: Backbone, root: Path, max_seconds: float = 30.0) -> ShardCache:
    """The cache of a corpus for a backbone, whether or not it exists yet."""
    fingerprint = cache_fingerprint(source, backbone, codec_for(source, backbone), max_seconds)
    return ShardCache(root / fingerprint, fingerprint)


def prepare(
    source: SpeechSource,
    backbone: Backbone,
    root: Path,
    workers: int = 2,
    splits: Sequence[str] = SPLITS,
    max_seconds: float = 30.0,
    task: Task = ALL,
) -> ShardCache:
    """Make the shards that are missing or whose index is damaged. Whoever finishes the last one reports on all.

    Several processes may do this at once. Each makes shards that no other one makes, and then waits until its own are
    there.

    Args:
        source: The corpus.
        backbone: The model whose conditioner and codec to use.
        root: Folder of all caches.
        workers: Number of processes that load and encode the audio; 0 does it in this process.
        splits: The splits to prepare.
        max_seconds: Longest recording to use, in seconds; longer ones are left out.
        task: The shards to make; by default, all.

    Raises:
        ValueError: If no utterance of a split can be used, the disk is full, or the cache cannot be written.
    """
    stop_second_import()
    cache = shard_cache(source, backbone, root, max_seconds)
    if cache.is_complete(splits, task):  # without a lock, because the folder may be read-only
        return cache
    with _writing(cache.folder):
        cache.folder.mkdir(parents=True, exist_ok=True)
        _complete(cache, source, backbone, workers, splits, max_seconds, task)
    return cache


def copy_shards(cache: ShardCache, url: str, splits: Sequence[str] = SPLITS) -> None:
    """Copy the shards that are missing or whose index is damaged from another cache. Several processes may do this.

    Args:
        cache: The cache to copy to.
        url: The URL of the other cache: the folder that contains the folders of all corpora.
        splits: The splits to copy.

    Raises:
        ValueError: If the other cache cannot be read, is damaged, or has no finished preparation of the same name.
    """
    if cache.is_complete(splits):
        return
    remote = RemoteFolder(f"{url.rstrip('/')}/{cache.fingerprint}")
    counts = _read_splits(remote.read(FINISHED))
    if lacking := [split for split in splits if split not in counts]:
        raise ValueError(f"no finished preparation of {lacking[0]} in {remote.url}: finish it, and copy it there again")
    with _writing(cache.folder):
        cache.folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(cache.folder)
        missing = [path for split in splits for path in cache.shards(split, counts[split]) if not cache.holds(path)]
        with progress("copying shards", len(missing), "shards") as shown:

            def copy_one(path: Path) -> None:
                if not cache.holds(path):
                    with replacing(path, "set --data.cache_dir to another disk") as copied:
                        remote.copy(path.name, copied)
                        if not cache.holds(copied):
                            raise ValueError(f"shard {remote.url}/{path.name} is damaged: copy it there again")
                shown.advance()

            take_turns(
                {lock_of(path): partial(copy_one, path) for path in missing},
                f"waiting for another process that copies to {cache.folder}",
            )
        cache.finish({split: counts[split] for split in splits})


def lock_of(shard: Path) -> Path:
    """The file of the lock under which a shard is written."""
    return shard.with_name(f".{shard.stem}.lock")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn an error of a file in the cache into one line. Other errors pass."""
    try:
        yield
    except OSError as error:
        named = Path(str(error.filename))
        if not (named.is_relative_to(folder) or folder.is_relative_to(named)):
            raise
        raise ValueError(
            f"the cache {folder} is not complete and cannot be written ({error.strerror}): set --data.cache_dir to "
            f"another folder"
        ) from error


def _complete(
    cache: ShardCache,
    source: SpeechSource,
    backbone: Backbone,
    workers: int,
    splits: Sequence[str],
    max_seconds: float,
    task: Task,
) -> None:
    if isinstance(source, NamedCodes):
        source.check_codes(backbone)
    todo: list[tuple[Path, list[Utterance]]] = []
    counts = {}
    for split in splits:
        utterances = source.utterances(split)
        if not utterances:
            raise ValueError(f"the corpus has no utterance for {split}: add some, or give this split a larger share")
        counts[split] = len(utterances)
        parts = [utterances[i : i + UTTERANCES_PER_SHARD] for i in range(0, len(utterances), UTTERANCES_PER_SHARD)]
        todo += zip(cache.shards(split, len(utterances)), parts, strict=True)
    missing = [(path, part) for path, part in task.own(todo) if not cache.holds(path)]
    for path in (path for path, _ in missing if path.is_file()):
        print(f"shard {path} is damaged: it is made again", flush=True)
    if missing:
        remove_partial_files(cache.folder)
        try:
            ShardMaker(source, backbone, cache, max_seconds).make(missing, workers)
        except Interrupted as stopped:
            made = sum(map(cache.holds, (path for path, _ in todo)))
            stopped.report = (
                f"{made} of {len(todo)} shards are made and kept in {cache.folder}; the same command goes on"
            )
            raise
    finish = partial(_finish, cache, [path for path, _ in todo], counts, backbone.frame_rate, task)
    take_turns({cache.folder / ".lock": finish}, f"waiting for another process that reports on {cache.folder}")


def _finish(cache: ShardCache, shards: list[Path], counts: dict[str, int], frame_rate: float, task: Task) -> None:
    """Report on all shards, or name one that another task has not made yet. It may be done any number of times."""
    missing = [i for i, path in enumerate(shards) if not cache.holds(path)]
    if not missing:
        write_report(cache.folder, shards, cache.fingerprint, frame_rate)
        cache.finish(counts)
        return
    other = "" if task == ALL else f" with --shard {task.that_makes(missing[0])}"
    said = (
        f"{len(missing)} of {len(shards)} shards in {cache.folder} are missing, the first is "
        f"{shards[missing[0]].name}: the same command{other} makes it"
    )
    if task == ALL:
        raise ValueError(said)
    print(said, flush=True)


class ShardMaker:
    """Makes shards for one backbone.

    Args:
        source: The corpus.
        backbone: The model whose conditioner and codec to use.
        cache: The cache of the shards.
        max_seconds: Longest recording to use, in seconds.
    """

    def __init__(self, source: SpeechSource, backbone: Backbone, cache: ShardCache, max_seconds: float) -> None:
        self.source = source
        self.backbone = backbone
        self.cache = cache
        self.max_seconds = max_seconds
        self.codec = codec_for(source, backbone)
        self.encoder = Encoder(source, self.codec, SpeechLimits.of(backbone, max_seconds))
        self.references = References(source, self.encoder, backbone)

    def make(self, todo: Sequence[tuple[Path, list[Utterance]]], workers: int) -> None:
        """Make shards one after another, without those that other processes make meanwhile."""
        total = sum(len(part) for _, part in todo)
        with progress("preparing speech", total, "utterances") as shown, self._examples_in(workers) as examples:

            def make_one(path: Path, part: list[Utterance]) -> None:
                if self.cache.holds(path):
                    shown.advance(len(part))
                else:
                    self._write(path, examples(part, shown.advance))

            take_turns(
                {lock_of(path): partial(make_one, path, part) for path, part in todo},
                f"waiting for another process that prepares {self.cache.folder}",
            )

    @contextmanager
    def _examples_in(
        self, workers: int
    ) -> Iterator[Callable[[Sequence[Utterance], Callable[[int], object]], Iterable[Example | Refusal]]]:
        """Give a function that makes the examples of a shard and reports the number of finished utterances.

        The utterances are encoded in parallel, by that many processes. Codes are read in this one, because starting a
        process takes longer.
        """
        if isinstance(self.source, TeacherSamples):
            yield TeacherSpeech(self.source, self.backbone, self.codec, self.max_seconds).speak
            return
        with in_processes(self.encoder, 0 if is_coded(self.source) else workers) as encode:

            def made(part: Sequence[Utterance], on_done: Callable[[int], object]) -> Iterator[Example | Refusal]:
                heard = []
                for own in encode(part):
                    heard.append(own)
                    on_done(1)
                yield from self._examples(part, heard)

            yield made

    def _write(self, path: Path, made: Iterable[Example | Refusal]) -> None:
        parts = list(made)
        examples = [one for one in parts if isinstance(one, Example)]
        refused = [one for one in parts if isinstance(one, Refusal)]
        write_shard(path, examples, self.cache.fingerprint, self.backbone.conditioner.length, refused)

    def _examples(
        self, part: Sequence[Utterance], heard: Sequence[SpeechCodes | Refusal]
    ) -> Iterator[Example | Refusal]:
        checked = [
            own if isinstance(own, Refusal) else check_length(u, own, self.backbone, self.max_seconds)
            for u, own in zip(part, heard, strict=True)
        ]
        kept = [(u, own) for u, own in zip(part, checked, strict=True) if isinstance(own, SpeechCodes)]
        yield from (own for own in checked if isinstance(own, Refusal))
        for (utterance, own), reference in zip(kept, self.references(kept), strict=True):
            if isinstance(reference, Refusal):
                yield reference
            else:
                yield make_example(utterance, own.codes, *reference, self.backbone.conditioner)
