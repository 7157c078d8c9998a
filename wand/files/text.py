"""Read text files that people and other programs wrote."""

from __future__ import annotations

from pathlib import Path

BOM = "\ufeff"


def read_text(path: Path) -> str:
    """Read a UTF-8 file. A byte order mark at its beginning is left out.

    Raises:
        ValueError: If there is no such file, or it is not UTF-8; the message names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8").removeprefix(BOM)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line} is not UTF-8: save the file as UTF-8") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    r"""Read the lines of a UTF-8 file that are not blank, each with its number from 1.

    A line ends with ``\n`` or ``\r\n``; in a file without any ``\n``, with ``\r``. Other characters that Unicode counts
    as line ends (form feed, U+0085, U+2028, U+2029) belong to the text, which `str.splitlines` would cut there.

    Raises:
        ValueError: As in `read_text`.
    """
    text = read_text(path)
    lines = text.split("\n" if "\n" in text else "\r")
    # Files that were joined have a byte order mark in the middle.
    bare = (line.removesuffix("\r").removeprefix(BOM) for line in lines)
    return [(number, line) for number, line in enumerate(bare, start=1) if line.strip()]
