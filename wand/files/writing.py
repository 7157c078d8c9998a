"""Files that are written as a whole or not at all.

A file is written beside its target under another name, flushed to the disk, and renamed. After a crash, the target is
the old file or the new one. This holds on every file system, because a rename inside one folder is never a copy.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

PARTIAL = ".partial"
FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def replacing(path: str | Path, remedy: str = "free some space or choose another folder") -> Iterator[Path]:
    """Give the name under which to write a file; the finished file then takes the place of `path`.

    The folder is made if it is missing. If the ``with`` block fails, the old file stays and the new one is removed. A
    link is followed. A device or a pipe is written directly.

    Args:
        path: The file to write or replace.
        remedy: What the user can do if the file cannot be written.

    Raises:
        ValueError: If the disk is full, or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    partial = partial_of(target)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode  # as the umask has it; safetensors would make files that only the user can read
        yield partial
        partial.chmod(mode)
        flush(partial)
        os.replace(partial, target)
        flush(target.parent)
    except OSError as error:
        if error.errno in FULL:
            raise ValueError(f"no space left for {path}: {remedy}") from error
        if error.filename is not None and str(error.filename).startswith(str(target.parent)):
            raise ValueError(f"{path} cannot be written ({error.strerror}): {remedy}") from error
        raise
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def partial_of(target: Path) -> Path:
    """The name under which this thread writes a file or folder before it takes the place of `target`."""
    # A name may already have the largest length, so only a part of it is used.
    short = f"{target.name[:20]}.{crc32(target.name.encode('utf-8', 'surrogateescape')):08x}"
    return target.with_name(f".{short}.{threading.get_native_id()}.{_host()}@{os.getpid()}{PARTIAL}")


def put_in_place(made: Path, target: Path) -> None:
    """Give a finished file or folder the name of another one, which is removed. One of them may be a folder.

    A folder cannot be replaced in one step. If this process ends between the two renames, the old one is whole, under
    the name ``STEM.before.SUFFIX``.
    """
    before = target.with_name(f"{target.stem}.before{target.suffix}")
    _remove(before)
    if target.exists():
        os.rename(target, before)
    os.rename(made, target)
    flush(target.parent)
    _remove(before)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file as a whole."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, in UTF-8, as a whole."""
    write_bytes(path, text.encode("utf-8"))


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(file)


def remove_partial_files(folder: Path) -> None:
    """Remove the unfinished files and folders, anywhere in a folder, of processes of this machine that have ended."""
    for path in list(folder.rglob(f".*{PARTIAL}")):
        host, _, process = path.name.removesuffix(PARTIAL).rpartition("@")
        if host.endswith(f".{_host()}") and process.isdigit() and not _runs(int(process)):
            _remove(path)


def _host() -> str:
    return socket.gethostname().replace("/", "-")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process != os.getpid()


def check_writable(path: str | Path) -> None:
    """Check that a file can be written. Its folder need not exist.

    Raises:
        ValueError: If it cannot.
    """
    path = Path(path)
    _check_name(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file in it")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{path} cannot be written: it is read-only")
    check_folder(path.parent)


def _check_name(path: Path) -> None:
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r} is no name of a file: it has a zero byte")


def check_folder(folder: str | Path) -> None:
    """Check that files can be written into a folder. It need not exist.

    Raises:
        ValueError: If they cannot.
    """
    folder = Path(folder)
    _check_name(folder)
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise ValueError(f"{folder} cannot be written: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: the folder {there} is read-only")
