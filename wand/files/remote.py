"""Files at a URL, of any kind that fsspec opens: ``s3://``, ``gs://``, ``https://``, ``file://``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fsspec.core import url_to_fs

# Bytes that are read at a time.
CHUNK = 2**22


class RemoteFolder:
    """A folder at a URL, to read from.

    Args:
        url: The URL of the folder.

    Raises:
        ValueError: If its protocol is unknown, or needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._files, self._path = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{url} cannot be opened: {error}") from error

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ValueError: If it cannot be read.
        """
        return b"".join(self._chunks(name))

    def copy(self, name: str, target: Path) -> None:
        """Write the content of a file into another one.

        Raises:
            ValueError: If it cannot be read.
        """
        with target.open("wb") as file:
            file.writelines(self._chunks(name))

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            with self._files.open(f"{self._path}/{name}", "rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except FileNotFoundError as error:
            raise ValueError(f"there is no {self.url}/{name}") from error
        except Exception as error:  # every protocol has errors of its own
            raise ValueError(f"{self.url}/{name} cannot be read: {error or type(error).__name__}") from error
