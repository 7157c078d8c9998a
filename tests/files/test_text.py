"""Text files of other programs."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from wand.files.text import read_lines, read_text

# What Unicode or `str.splitlines` counts as the end of a line, besides \n and \r.
WITHIN = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.txt"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "marked"])
def test_lines_end_at_newlines_only(file, end, mark):
    texts = ["eins", f"zwei{WITHIN}drei", "", "  ", "grüße 你好 "]
    file.write_bytes(mark + end.join(texts).encode())
    assert read_lines(file) == [(1, texts[0]), (2, texts[1]), (5, texts[4])]
    file.write_bytes(mark + (end.join(texts) + end).encode())
    assert read_lines(file) == [(1, texts[0]), (2, texts[1]), (5, texts[4])]


def test_a_single_carriage_return_is_no_line_end_among_newlines(file):
    file.write_bytes(b"one\rtwo\nthree\r\r\n")
    assert read_lines(file) == [(1, "one\rtwo"), (2, "three\r")]


def test_marks_between_joined_files_are_left_out(file):
    file.write_bytes(codecs.BOM_UTF8 + b"one\n" + codecs.BOM_UTF8 + b"two\n" + codecs.BOM_UTF8)
    assert read_lines(file) == [(1, "one"), (2, "two"), (3, "")][:2]
    assert read_text(file).startswith("one")


@pytest.mark.parametrize(
    ("content", "line"), [("ü\nü\nü".encode("latin-1"), 1), (b"a\nb\n\xff", 3), ("a\nb".encode("utf-16"), 1)]
)
def test_what_is_not_utf_8_is_named(file, content, line):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.txt, line {line} is not UTF-8"):
        read_lines(file)


def test_what_cannot_be_read_is_named(file):
    for path in (file, file.parent):
        with pytest.raises(ValueError, match="cannot be read"):
            read_text(path)


def test_an_empty_file_has_no_lines(file):
    for content in (b"", b"\n\n", codecs.BOM_UTF8):
        file.write_bytes(content)
        assert read_lines(file) == []
