"""Digests of file contents. They are remembered, so that a file is read again only after it has changed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wand.console.progress import progress
from wand.files.writing import replacing

# Files are looked at by this many threads (reading waits for the disk, and hashing releases the interpreter's lock),
# and this many files at a time.
THREADS = 8
FILES_AT_ONCE = 256
# A file that has changed in the last seconds is not remembered: a further change could leave the same time behind.
SETTLED_NS = 2_000_000_000

# Size, times of the last change of content and of inode (nanoseconds), and inode. `touch` and `rsync --times` can set
# the first time back, but not the second.
State = tuple[int, int, int, int]
Known = dict[str, tuple[State, str]]


def default_cache_dir() -> Path:
    """``$WAND_CACHE``, else ``wand`` in the user's cache folder."""
    if named := os.environ.get("WAND_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wand"


def content_digests(files: Iterable[Path]) -> dict[Path, str | None]:
    """Digests of the contents of files; None for what is missing or cannot be read.

    The digests are remembered in `default_cache_dir`. A remembered digest is used while the file's size, times and
    inode stay the same, so that a large corpus costs one `os.stat` per file.
    """
    paths = list(dict.fromkeys(files))
    if not paths:
        return {}
    names = [os.path.abspath(path) for path in paths]
    memory = _memory_of(names)
    known = _read_memory(memory)
    found: Known = {}
    digests: list[str | None] = []
    parts = [names[i : i + FILES_AT_ONCE] for i in range(0, len(names), FILES_AT_ONCE)]
    with progress("looking for changed files", len(paths), "files") as seen, ThreadPoolExecutor(THREADS) as pool:
        for own, kept in pool.map(lambda part: _look_at(part, known), parts):
            digests += own
            found |= kept
            seen.advance(len(own))
    if any(known.get(name) != one for name, one in found.items()):
        _write_memory(memory, {**known, **found})
    return dict(zip(paths, digests, strict=True))


def contents_of(path: Path) -> str | None:
    """Digest of a file, or of all files in a folder with their names; None if there is neither."""
    if not path.exists():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digests = content_digests(files)
    parts = [(file.relative_to(path).as_posix(), digests[file]) for file in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _look_at(names: Sequence[str], known: Known) -> tuple[list[str | None], Known]:
    """Digests of some files, and those that can be remembered."""
    digests: list[str | None] = []
    kept: Known = {}
    for name in names:
        state = _state(name)
        if state is None:
            digests.append(None)
        elif name in known and known[name][0] == state:
            digests.append(known[name][1])
            kept[name] = known[name]
        else:
            digests.append(digest := _digest(name))
            settled = _state(name) == state and time.time_ns() - max(state[1:3]) > SETTLED_NS
            if digest is not None and settled:
                kept[name] = (state, digest)
    return digests, kept


def _state(name: str) -> State | None:
    """The state of a regular file; None if there is none."""
    try:
        found = os.stat(name)
    except (OSError, ValueError):  # ValueError: a name that no file system can have
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _digest(name: str) -> str | None:
    try:
        with open(name, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return None  # who needs the content reports the error


def _memory_of(names: Sequence[str]) -> Path:
    """The file that remembers the digests of a corpus: one for each folder that holds corpora."""
    folder = os.path.commonpath([os.path.dirname(name) for name in names])
    return default_cache_dir() / "contents" / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.json"


def _read_memory(path: Path) -> Known:
    try:
        stored = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
        return {str(name): ((size, mtime, ctime, inode), str(digest))
                for name, (size, mtime, ctime, inode, digest) in stored.items()}  # fmt: skip
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # every file is read, and the memory is written again


def _write_memory(path: Path, known: Known) -> None:
    content = json.dumps({name: [*state, digest] for name, (state, digest) in known.items()})
    try:
        with replacing(path, "set WAND_CACHE to a folder that can be written") as partial:
            partial.write_text(content, encoding="utf-8")
    except (OSError, ValueError) as error:
        warnings.warn(
            f"the digests of the corpus cannot be remembered, so every start reads the whole corpus: {error}",
            stacklevel=2,
        )
